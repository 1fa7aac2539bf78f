"""A replica of a shard as a server of its own port, which those who ask find by a file beside the index.

A front asks replicas without anything in between. Which there are it reads from the release's folder
`replicas/SHARD`, where each writes its address once it is ready. Such a file may outlive its replica, and its port
belong to another one by then: each request names the shard that it is for.
"""

import asyncio
import os
import secrets
from pathlib import Path

import numpy as np
import torch

from deephash.cluster.shard_messages import message_of, read_message
from deephash.cluster.sharded_index import IndexShard, OpenShard
from deephash.files import write_json
from deephash.validation import InvalidInputError


def addresses_folder(shard: IndexShard) -> Path:
    """Where the replicas of a shard write their addresses."""
    folder = Path(shard.folder)
    return folder.parent / "replicas" / folder.name


def shard_name(shard: IndexShard) -> str:
    """What a shard is called among all shards of all releases."""
    folder = Path(shard.folder)
    return f"{folder.parent.name}/{folder.name}"


class ShardServer:
    """A loaded shard that answers whoever connects.

    Args:
        shard: which.

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, shard: IndexShard) -> None:
        self.name = shard_name(shard)
        self.opened = OpenShard(shard)
        # Kernels are compiled, or read, before the first request comes.
        self.opened.search(self.opened.index.codes[:1], 1)
        self.address = addresses_folder(shard) / f"{secrets.token_hex(8)}.json"

    async def start(self, host: str) -> None:
        """Listen on a free port of a host, and make it known."""
        self.server = await asyncio.start_server(self._serve, host, 0)
        port = self.server.sockets[0].getsockname()[1]
        self.address.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.address, {"host": host, "port": port, "process": os.getpid()})

    @property
    def is_serving(self) -> bool:
        """Whether it listens."""
        return self.server.is_serving()

    def withdraw(self) -> None:
        """Be asked no more, before it ends."""
        self.address.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await read_message(reader)
                writer.write(await asyncio.to_thread(self._answer, asked))
                await writer.drain()
        except (asyncio.IncompleteReadError, InvalidInputError, ConnectionError):
            pass  # The other side has gone, or is no front.
        finally:
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
