"""Asking a shard: of its replicas the one with the least to do, and another where that one does not answer."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deephash.cluster.shard_messages import message_of, read_message
from deephash.cluster.shard_server import addresses_folder, shard_name
from deephash.indexes.sharded_index import IndexShard, ShardAnswer
from deephash.io.files import read_json
from deephash.validation import InvalidInputError

# A replica that has not answered within the first is left alone, and another one asked; a shard of which none has
# within the second counts as missing. A replica that was killed is up again in between.
SECONDS_TO_ANSWER, SECONDS_TO_GIVE_UP = 5.0, 15.0
# New replicas are looked for as often; sooner where none is left.
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_ATTEMPTS = 0.1


@dataclass
class Replica:
    """A replica's address, and the connections to it, each of which takes one request at a time.

    Args:
        host: where it listens.
        port: on which port.
    """

    host: str
    port: int
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    asked: int = 0
    asked_at: float = 0.0
    rests_until: float = 0.0
    is_gone: bool = False

    async def ask(self, message: bytes) -> list[np.ndarray]:
        """Its reply.

        Raises:
            OSError: it cannot be reached, or its connection broke.
            asyncio.IncompleteReadError: it ended meanwhile.
            InvalidInputError: what came is no reply.
        """
        self.asked, self.asked_at = self.asked + 1, time.monotonic()
        try:
            reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, self.port)
            try:
                writer.write(message)
                reply = await read_message(reader)
            except BaseException:  # Also of a time that ran out: a late reply must not be taken for the next one.
                writer.close()
                raise
            if self.is_gone:
                writer.close()
            else:
                self.idle.append((reader, writer))
            return reply
        finally:
            self.asked -= 1

    def close(self) -> None:
        """End the connections that nobody uses."""
        while self.idle:
            self.idle.pop()[1].close()


class ShardClient:
    """A shard as those see it who ask.

    Args:
        shard: which.
        seconds_to_answer: after which another replica is asked.
        seconds_to_give_up: after which the shard counts as missing.
    """

    def __init__(
        self,
        shard: IndexShard,
        seconds_to_answer: float = SECONDS_TO_ANSWER,
        seconds_to_give_up: float = SECONDS_TO_GIVE_UP,
    ) -> None:
        self.name, self.folder = shard_name(shard), addresses_folder(shard)
        self.seconds_to_answer, self.seconds_to_give_up = seconds_to_answer, seconds_to_give_up
        self.replicas: dict[str, Replica] = {}
        self.gone: set[str] = set()
        self.looked, self.looking = -math.inf, asyncio.Lock()

    async def search(self, codes: np.ndarray, k: int) -> ShardAnswer | str:
        """What the shard finds for packed codes uint8 (q, ⌈b/8⌉), or why it does not answer."""
        message = message_of(self.name, k, codes)
        reason, deadline = "it has no replica", time.monotonic() + self.seconds_to_give_up
        await self._look(SECONDS_BETWEEN_LOOKS)
        while (left := deadline - time.monotonic()) > 0:
            token = self._least_asked()
            if token is None:
                await asyncio.sleep(min(left, SECONDS_BETWEEN_ATTEMPTS))
                await self._look(SECONDS_BETWEEN_ATTEMPTS)
                continue
            replica = self.replicas[token]
            try:
                reply = await asyncio.wait_for(replica.ask(message), min(left, self.seconds_to_answer))
            except TimeoutError:
                reason = f"no answer within {self.seconds_to_answer:g} s"
                replica.rests_until = time.monotonic() + self.seconds_to_answer
                continue
            except (ConnectionRefusedError, InvalidInputError):
                # It listened before it wrote its address: it has ended, and somebody else may listen there.
                reply = []
            except (OSError, asyncio.IncompleteReadError) as error:
                reason = f"its replica broke off ({type(error).__name__})"
                replica.close()
                replica.rests_until = time.monotonic() + SECONDS_BETWEEN_ATTEMPTS
                continue
            if reply:
                return ShardAnswer(*reply) if len(reply) == 3 else str(reply[0])
            reason = "its replica has ended"
            self._forget(token)
        return reason

    def close(self) -> None:
        """End the connections that nobody uses."""
        for replica in self.replicas.values():
            replica.close()

    def leave(self) -> None:
        """End all connections, those in use after their reply."""
        for replica in self.replicas.values():
            replica.is_gone = True
            replica.close()

    def _least_asked(self) -> str | None:
        now = time.monotonic()
        awake = [token for token, replica in self.replicas.items() if replica.rests_until <= now]
        # Among equals the one that has rested longest, so that all share.
        return min(awake, key=lambda token: (self.replicas[token].asked, self.replicas[token].asked_at), default=None)

    def _forget(self, token: str) -> None:
        self.gone.add(token)
        if token in self.replicas:  # Several requests may notice.
            replica = self.replicas.pop(token)
            replica.is_gone = True
            replica.close()

    async def _look(self, seconds: float) -> None:
        """Take in replicas that have come, and leave those that were told to end, unless that was done just now."""
        if time.monotonic() - self.looked < seconds:
            return
        async with self.looking:
            if time.monotonic() - self.looked < seconds:
                return  # Somebody else has looked meanwhile.
            found = await asyncio.to_thread(read_addresses, self.folder)
            self.looked = time.monotonic()
            for token in self.replicas.keys() - found.keys():
                self._forget(token)
            for token in found.keys() - self.replicas.keys() - self.gone:
                self.replicas[token] = Replica(*found[token])


def read_addresses(folder: Path) -> dict[str, tuple[str, int]]:
    """Host and port of each replica that has written them, by the name of its file."""
    found = {}
    for path in folder.glob("*.json"):
        try:
            address = read_json(path, "the address of a replica")
            found[path.stem] = (str(address["host"]), int(address["port"]))
        except (InvalidInputError, KeyError, TypeError, ValueError):
            continue  # It was removed meanwhile, or is not one.
    return found
