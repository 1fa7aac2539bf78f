"""How a new release takes over: the processes that serve load it beside the one before, and requests go over at once.

No process starts for it. One takes some ten seconds to start, longer where clients keep all processors busy.

- `Holder` runs in each replica. It looks for a new release in the folder, loads its shards of it, and makes their
  addresses known; it lets go of a release once `serving.json` names another.
- `NewRelease` runs where the service was started. It tells when all shards of a new release can be asked.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deephash.cluster.shard_client import read_addresses
from deephash.cluster.shard_server import ShardServer, addresses_folder, read_notes, write_note
from deephash.indexes.sharded_index import IndexRelease, IndexShard, read_release
from deephash.io.files import read_json
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

SERVING = "serving.json"
# A new release is looked for as often.
SECONDS_BETWEEN_LOOKS = 0.2
# A replaced release stays for longer than fronts take to look for another one.
SECONDS_TO_LEAVE = 2.0
# A release that could not be loaded is tried again after as long.
SECONDS_BETWEEN_ATTEMPTS = 5.0
# Where each shard has one replica, the others are not waited for any longer: they may have been lost.
SECONDS_FOR_ALL = 2.0
# A release that as many processes did not survive is not loaded again.
MAX_LOST = 3


def release_of(stored: Mapping[str, Any]) -> IndexRelease:
    """The release that `serving.json` names."""
    return IndexRelease(**{**stored, "shards": tuple(IndexShard(**shard) for shard in stored["shards"])})


def served_release(folder: Path) -> IndexRelease:
    """What is served of a folder.

    Raises:
        InvalidInputError: nothing.
    """
    return release_of(read_json(folder / SERVING, "the release that is served"))


def forget_losses(release: IndexRelease) -> None:
    """Remove what earlier services left of attempts to load a release."""
    for shard in release.shards:
        for token, note in read_notes(shard).items():
            if "port" not in note:
                (addresses_folder(shard) / f"{token}.json").unlink(missing_ok=True)


class Holder:
    """The shards that one process holds, of the release that is served and of the one that takes its place.

    Shards are dealt to the processes in turn: a release of another number of shards than the first is spread over the
    processes that are there.

    Args:
        folder: of the sharded index.
        number: of this process, from 0; replicas of a shard have the same.
        processes: with different numbers.
        replicas: of each process.
        host: address to listen on.

    Raises:
        InvalidInputError: neither the release that is served nor the newest can be loaded.
    """

    def __init__(self, folder: Path, number: int, processes: int, replicas: int, host: str) -> None:
        self.folder, self.number, self.processes, self.replicas = folder, number, processes, replicas
        self.host = host
        self.held: dict[str, list[ShardServer]] = {}
        self.unneeded: dict[str, float] = {}
        self.tried: dict[str, float] = {}
        try:
            release = served_release(folder)
            servers = self._load(release)
        except InvalidInputError:
            release = read_release(folder)
            servers = self._load(release)
        self.first = (release.name, servers)

    async def start(self) -> None:
        """Listen, and make the addresses known."""
        name, servers = self.first
        await self._open(name, servers)

    @property
    def is_serving(self) -> bool:
        """Whether everything that is held listens."""
        return all(server.is_serving for servers in self.held.values() for server in servers)

    async def follow(self) -> None:
        """Look for new releases again and again; never ends by itself."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            try:
                await self.look()
            except Exception as error:  # What is held goes on being served.
                log.error("releases of %s cannot be followed: %s", self.folder, error)

    async def look(self) -> None:
        """Load the newest release if it is not held, and let go of releases that are needed no longer."""
        newest, served = await asyncio.to_thread(lambda: (read_release(self.folder), served_release(self.folder)))
        for release in (served, newest):
            if release.name not in self.held and time.monotonic() >= self.tried.get(release.name, 0.0):
                self.tried[release.name] = time.monotonic() + SECONDS_BETWEEN_ATTEMPTS
                await self._take(release)
        now = time.monotonic()
        for name in list(self.held):
            if name in (newest.name, served.name):
                self.unneeded.pop(name, None)
            elif now - self.unneeded.setdefault(name, now) >= SECONDS_TO_LEAVE:
                for server in self.held.pop(name):
                    server.close()

    def close(self) -> None:
        """Be asked no more."""
        for servers in self.held.values():
            for server in servers:
                server.withdraw()

    async def _take(self, release: IndexRelease) -> None:
        try:
            servers = await asyncio.to_thread(self._load, release)
        except InvalidInputError:
            return  # The reason stands where the address would.
        await self._open(release.name, servers)

    async def _open(self, name: str, servers: list[ShardServer]) -> None:
        for server in servers:
            await server.start(self.host)
        self.held[name] = servers

    def _load(self, release: IndexRelease) -> list[ShardServer]:
        """The process's own shards; where one cannot be loaded, the reason is left beside the addresses."""
        servers = []
        for shard in release.shards[self.number :: self.processes]:
            lost = sum("loading" in note for note in read_notes(shard).values())
            token = write_note(shard, {"loading": True})
            try:
                # Replicas that load it at the moment have left such a note as well.
                if lost >= MAX_LOST + self.replicas:
                    raise InvalidInputError(f"{lost} processes ended while they loaded {shard.folder}; build it again.")
                servers.append(ShardServer(shard, token))
            except Exception as error:
                write_note(shard, {"refused": " ".join(str(error).split()) or type(error).__name__}, token)
                raise InvalidInputError(f"{shard.folder} cannot be served ({error}).") from error
        return servers


class NewRelease:
    """A release that is to take over.

    Args:
        release: which.
        replicas: of each shard that are waited for.
        clock: tells the time in seconds.
    """

    def __init__(self, release: IndexRelease, replicas: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.release, self.replicas, self.clock = release, replicas, clock
        self.complete_since: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether requests may go to it: all replicas can be asked, or one of each shard for a while."""
        there = [len(read_addresses(addresses_folder(shard))) for shard in self.release.shards]
        if min(there) == 0:
            self.complete_since = None
            return False
        if self.complete_since is None:
            self.complete_since = self.clock()
        return min(there) >= self.replicas or self.clock() - self.complete_since >= SECONDS_FOR_ALL

    @property
    def refusal(self) -> str | None:
        """Why a shard cannot be loaded, where no replica of it can be asked."""
        for shard in self.release.shards:
            notes = read_notes(shard).values()
            refused = [str(note["refused"]) for note in notes if "refused" in note]
            if refused and not any("port" in note for note in notes):
                return refused[-1]
        return None
