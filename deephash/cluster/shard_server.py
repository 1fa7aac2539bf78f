"""A server for one replica of a shard; clients find its address in a file beside the index.

A front, the HTTP server, connects to replicas directly. It reads their addresses from the release's folder
`replicas/SHARD`, into which each replica writes its address once it is ready. Such a file may outlive its replica, and
the port may then belong to another replica. Therefore each request names its shard.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deephash.cluster.shard_messages import encode_message, read_message
from deephash.indexes.sharded_index import IndexShard, OpenShard
from deephash.io.files import describe_error, read_json, write_json
from deephash.validation import InvalidInputError


def addresses_folder(shard: IndexShard) -> Path:
    """Return the folder into which the replicas of a shard write their addresses."""
    folder = Path(shard.folder)
    return folder.parent / "replicas" / folder.name


def format_shard_key(shard: IndexShard) -> str:
    """Return the name of a shard, unique among all releases."""
    folder = Path(shard.folder)
    return f"{folder.parent.name}/{folder.name}"


def read_notes(shard: IndexShard) -> dict[str, dict[str, Any]]:
    """Read the notes that the replicas of a shard wrote about themselves, by the names of their files.

    A note contains `host` and `port` if the replica listens, `loading` if it is loading the shard or ended while
    loading it, and `refused`, with the reason, if it could not load the shard.
    """
    found = {}
    for path in addresses_folder(shard).glob("*.json"):
        with suppress(InvalidInputError):  # It was removed meanwhile, or is not a note.
            note = read_json(path, "the note of a replica")
            if isinstance(note, dict):
                found[path.stem] = note
    return found


def read_addresses(shard: IndexShard) -> dict[str, tuple[str, int]]:
    """Read the host and port of each replica that listens, by the name of its file."""
    found = {}
    for token, note in read_notes(shard).items():
        with suppress(KeyError, TypeError, ValueError):
            found[token] = (str(note["host"]), int(note["port"]))
    return found


def write_note(shard: IndexShard, note: Mapping[str, Any], token: str | None = None) -> str:
    """Write the note of a replica, as `read_notes` describes it.

    Args:
        shard: the shard of the replica.
        note: the note.
        token: token of the note to replace; None writes a new one.

    Returns:
        The token.
    """
    token = token or secrets.token_hex(8)
    path = addresses_folder(shard) / f"{token}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**note, "process": os.getpid()})
    return token


class ShardServer:
    """A loaded shard that answers requests on a socket.

    Args:
        shard: the shard to load.
        token: token of the note that will contain its address; None creates a new one.

    Raises:
        InvalidInputError: the index is damaged.
    """

    def __init__(self, shard: IndexShard, token: str | None = None) -> None:
        self.shard, self.name = shard, format_shard_key(shard)
        self.opened = OpenShard(shard)
        # Compile the kernels, or read them from the cache, before the first request.
        self.opened.search(self.opened.index.codes[:1], 1)
        self.token = token or secrets.token_hex(8)
        self.connections: set[asyncio.StreamWriter] = set()

    async def start(self, host: str) -> None:
        """Listen on a free port of a host, and write the address."""
        self.server = await asyncio.start_server(self._serve, host, 0)
        port = self.server.sockets[0].getsockname()[1]
        write_note(self.shard, {"host": host, "port": port}, self.token)

    @property
    def is_serving(self) -> bool:
        """Whether the server listens."""
        return self.server.is_serving()

    def withdraw(self) -> None:
        """Remove the address, so that no further requests come."""
        (addresses_folder(self.shard) / f"{self.token}.json").unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the address, and close all connections."""
        self.withdraw()
        self.server.close()
        for writer in self.connections:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while True:
                request = await read_message(reader)
                writer.write(await asyncio.to_thread(self._answer, request))
                await writer.drain()
        except (asyncio.IncompleteReadError, InvalidInputError, ConnectionError):
            pass  # The client has closed the connection, or is not a front.
        finally:
            self.connections.discard(writer)
            writer.close()

    def _answer(self, request: list[np.ndarray]) -> bytes:
        """Return distances, rows and names; the reason of a failure; or nothing if the request names another shard."""
        try:
            name, k, codes = request
            if name.item() != self.name:
                return encode_message()
            found = self.opened.search(torch.from_numpy(codes), int(k))
        except Exception as error:  # Any exception of a search becomes the reason.
            return encode_message(describe_error(error))
        return encode_message(found.distances, found.rows, found.names)
