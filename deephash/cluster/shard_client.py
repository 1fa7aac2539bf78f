"""Query a shard: ask its least busy replica, and another one if there is no answer."""

import asyncio
import math
import time
from dataclasses import dataclass, field

import numpy as np

from deephash.cluster.shard_messages import encode_message, read_message
from deephash.cluster.shard_server import format_shard_key, read_addresses
from deephash.indexes.sharded_index import IndexShard, ShardAnswer
from deephash.validation import InvalidInputError

# After `SECONDS_TO_ANSWER` without an answer, another replica is asked, and the silent one is left out for that time.
# After `SECONDS_TO_GIVE_UP`, the shard counts as missing; a killed replica restarts before that.
SECONDS_TO_ANSWER, SECONDS_TO_GIVE_UP = 5.0, 15.0
# Polling interval for new replicas; shorter if none is left.
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_ATTEMPTS = 0.1


@dataclass
class Replica:
    """The address of a replica, and the connections to it, each for one request at a time.

    Args:
        host: address of the replica.
        port: its port.
    """

    host: str
    port: int
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    asked: int = 0
    asked_at: float = 0.0
    rests_until: float = 0.0
    is_gone: bool = False

    async def ask(self, message: bytes) -> list[np.ndarray]:
        """Send a message, and return the reply.

        Raises:
            OSError: the replica cannot be reached, or its connection broke.
            asyncio.IncompleteReadError: the replica ended meanwhile.
            InvalidInputError: the bytes are not a reply.
        """
        self.asked, self.asked_at = self.asked + 1, time.monotonic()
        try:
            reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, self.port)
            try:
                writer.write(message)
                reply = await read_message(reader)
            except BaseException:  # Including a timeout: a late reply must not be read as the next one.
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
        """Close the idle connections."""
        while self.idle:
            self.idle.pop()[1].close()


class ShardClient:
    """A client of the replicas of a shard.

    Args:
        shard: the shard.
        seconds_to_answer: time after which another replica is asked.
        seconds_to_give_up: time after which the shard counts as missing.
    """

    def __init__(
        self,
        shard: IndexShard,
        seconds_to_answer: float = SECONDS_TO_ANSWER,
        seconds_to_give_up: float = SECONDS_TO_GIVE_UP,
    ) -> None:
        self.shard, self.name = shard, format_shard_key(shard)
        self.seconds_to_answer, self.seconds_to_give_up = seconds_to_answer, seconds_to_give_up
        self.replicas: dict[str, Replica] = {}
        self.gone: set[str] = set()
        self.looked, self.looking = -math.inf, asyncio.Lock()

    async def search(self, codes: np.ndarray, k: int) -> ShardAnswer | str:
        """Return the answer to packed codes uint8 (q, ⌈b/8⌉), or the reason why there is none."""
        message = encode_message(self.name, k, codes)
        reason, deadline = "it has no replica", time.monotonic() + self.seconds_to_give_up
        await self._look(SECONDS_BETWEEN_LOOKS)
        while (left := deadline - time.monotonic()) > 0:
            token = self._least_busy()
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
                # A replica listens before it writes its address, so this one has ended. Another may use its port now.
                reply = []
            except (OSError, asyncio.IncompleteReadError) as error:
                reason = f"its connection broke ({type(error).__name__})"
                replica.close()
                replica.rests_until = time.monotonic() + SECONDS_BETWEEN_ATTEMPTS
                continue
            if reply:
                return ShardAnswer(*reply) if len(reply) == 3 else str(reply[0])
            reason = "its replica has ended"
            self._forget(token)
        return reason

    def close(self) -> None:
        """Close the idle connections."""
        for replica in self.replicas.values():
            replica.close()

    def leave(self) -> None:
        """Close all connections; connections in use are closed after their reply."""
        for replica in self.replicas.values():
            replica.is_gone = True
            replica.close()

    def _least_busy(self) -> str | None:
        now = time.monotonic()
        awake = [token for token, replica in self.replicas.items() if replica.rests_until <= now]
        # Among equally busy replicas, choose the one that was asked least recently, so that all share the load.
        return min(awake, key=lambda token: (self.replicas[token].asked, self.replicas[token].asked_at), default=None)

    def _forget(self, token: str) -> None:
        self.gone.add(token)
        if token in self.replicas:  # Another request may have removed it.
            replica = self.replicas.pop(token)
            replica.is_gone = True
            replica.close()

    async def _look(self, seconds: float) -> None:
        """Add new replicas, and drop those that have withdrawn, unless the last look was within `seconds`."""
        if time.monotonic() - self.looked < seconds:
            return
        async with self.looking:
            if time.monotonic() - self.looked < seconds:
                return  # Another request has looked meanwhile.
            found = await asyncio.to_thread(read_addresses, self.shard)
            self.looked = time.monotonic()
            for token in self.replicas.keys() - found.keys():
                self._forget(token)
            for token in found.keys() - self.replicas.keys() - self.gone:
                self.replicas[token] = Replica(*found[token])
