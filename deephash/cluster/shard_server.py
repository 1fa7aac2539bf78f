"""A replica of a shard as a server of its own port, which those who ask find by a file beside the index.

A front asks replicas without anything in between. Which there are it reads from the release's folder
`replicas/SHARD`, where each writes its address once it is ready. Such a file may outlive its replica, and its port
belong to another one by then: each request names the shard that it is for.
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

from deephash.cluster.shard_messages import message_of, read_message
from deephash.indexes.sharded_index import IndexShard, OpenShard
from deephash.io.files import read_json, write_json
from deephash.validation import InvalidInputError


def addresses_folder(shard: IndexShard) -> Path:
    """Where the replicas of a shard write their addresses."""
    folder = Path(shard.folder)
    return folder.parent / "replicas" / folder.name


def shard_name(shard: IndexShard) -> str:
    """What a shard is called among all shards of all releases."""
    folder = Path(shard.folder)
    return f"{folder.parent.name}/{folder.name}"


def read_notes(shard: IndexShard) -> dict[str, dict[str, Any]]:
    """What the replicas of a shard wrote of themselves, by the names of their files.

    A note holds `host` and `port` of one that can be asked, `loading` of one that loads the shard, or did when it
    ended, and `refused`, the reason, of one that could not.
    """
    found = {}
    for path in addresses_folder(shard).glob("*.json"):
        with suppress(InvalidInputError):  # It was removed meanwhile, or is not one.
            note = read_json(path, "the note of a replica")
            if isinstance(note, dict):
                found[path.stem] = note
    return found


def write_note(shard: IndexShard, note: Mapping[str, Any], token: str | None = None) -> str:
    """Write what a replica says of itself.

    Args:
        shard: that it is of.
        note: as `read_notes` gives it.
        token: of the note that this one replaces; None for a new one.

    Returns:
        The token.
    """
    token = token or secrets.token_hex(8)
    path = addresses_folder(shard) / f"{token}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**note, "process": os.getpid()})
    return token


class ShardServer:
    """A loaded shard that answers whoever connects.

    Args:
        shard: which.
        token: of the note that will hold its address; None takes a new one.

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, shard: IndexShard, token: str | None = None) -> None:
        self.shard, self.name = shard, shard_name(shard)
        self.opened = OpenShard(shard)
        # Kernels are compiled, or read, before the first request comes.
        self.opened.search(self.opened.index.codes[:1], 1)
        self.token = token or secrets.token_hex(8)
        self.connections: set[asyncio.StreamWriter] = set()

    async def start(self, host: str) -> None:
        """Listen on a free port of a host, and make it known."""
        self.server = await asyncio.start_server(self._serve, host, 0)
        port = self.server.sockets[0].getsockname()[1]
        write_note(self.shard, {"host": host, "port": port}, self.token)

    @property
    def is_serving(self) -> bool:
        """Whether it listens."""
        return self.server.is_serving()

    def withdraw(self) -> None:
        """Be asked no more, before it ends."""
        (addresses_folder(self.shard) / f"{self.token}.json").unlink(missing_ok=True)

    def close(self) -> None:
        """End: be asked no more, and break off what is asked."""
        self.withdraw()
        self.server.close()
        for writer in self.connections:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while True:
                asked = await read_message(reader)
                writer.write(await asyncio.to_thread(self._answer, asked))
                await writer.drain()
        except (asyncio.IncompleteReadError, InvalidInputError, ConnectionError):
            pass  # The other side has gone, or is no front.
        finally:
            self.connections.discard(writer)
            writer.close()

    def _answer(self, asked: list[np.ndarray]) -> bytes:
        """The reply to shard, k and codes: distances, rows, names; the reason why not; nothing for another shard."""
        try:
            name, k, codes = asked
            if name.item() != self.name:
                return message_of()
            found = self.opened.search(torch.from_numpy(codes), int(k))
        except Exception as error:  # Whatever a search raises is the reason why there is none.
            return message_of(" ".join(str(error).split())[:200] or type(error).__name__)
        return message_of(found.distances, found.rows, found.names)
