"""Switch to a new release: the serving processes load it beside the current one, then all requests go to it.

No process is started for a release, since that takes about ten seconds, and longer if clients keep all processors busy.

- `Holder` runs in each replica. It looks for a new release in the folder, loads its shards, and writes their
  addresses. It closes a release when `serving.json` names another.
- `NewRelease` runs in the process that started the service. It reports when all shards of a new release are available.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from deephash.cluster.polling import poll
from deephash.cluster.shard_server import ShardServer, addresses_folder, read_addresses, read_notes, write_note
from deephash.indexes.sharded_index import IndexRelease, IndexShard, read_release
from deephash.io.files import describe_error, read_json
from deephash.validation import InvalidInputError

SERVING = "serving.json"
# Polling interval for new releases.
SECONDS_BETWEEN_LOOKS = 0.2
# Time for which a replaced release is kept; longer than the interval at which the front processes poll.
SECONDS_TO_LEAVE = 2.0
# Time after which a failed load is tried again.
SECONDS_BETWEEN_ATTEMPTS = 5.0
# Time to wait for the other replicas, which may have failed, once one replica of each shard listens.
SECONDS_FOR_ALL = 2.0
# A release is not loaded again after this number of processes have ended while loading it.
MAX_LOST = 3


def read_served(folder: Path) -> IndexRelease:
    """Read the served release of a folder, which `serving.json` describes."""
    stored = read_json(folder / SERVING, "the release that is served")
    return IndexRelease(**{**stored, "shards": tuple(IndexShard(**shard) for shard in stored["shards"])})


def forget_losses(release: IndexRelease) -> None:
    """Remove the notes on failed and unfinished loads of a release that earlier services left."""
    for shard in release.shards:
        for token, note in read_notes(shard).items():
            if "port" not in note:
                (addresses_folder(shard) / f"{token}.json").unlink(missing_ok=True)


class Holder:
    """The shards that one process holds, of the served release and of the one that replaces it.

    Shards are assigned to the processes in turn. A release with another number of shards than the first is spread over
    the same processes.

    Args:
        folder: folder of the sharded index.
        number: number of this process, from 0; replicas of a shard have the same number.
        processes: number of processes, without replicas.
        replicas: replicas of each process.
        host: address to listen on.

    Raises:
        InvalidInputError: neither the served release nor the newest can be loaded.
    """

    def __init__(self, folder: Path, number: int, processes: int, replicas: int, host: str) -> None:
        self.folder, self.number, self.processes, self.replicas = folder, number, processes, replicas
        self.host = host
        self.held: dict[str, list[ShardServer]] = {}
        self.unneeded: dict[str, float] = {}
        self.tried: dict[str, float] = {}
        try:
            release = read_served(folder)
            servers = self._load(release)
        except InvalidInputError:
            release = read_release(folder)
            servers = self._load(release)
        self.first = (release.name, servers)

    async def start(self) -> None:
        """Listen, and write the addresses."""
        name, servers = self.first
        await self._open(name, servers)

    @property
    def is_serving(self) -> bool:
        """Whether the servers of all loaded shards listen."""
        return all(server.is_serving for servers in self.held.values() for server in servers)

    async def follow(self) -> None:
        """Look for new releases until the process ends."""
        await poll(self.look, SECONDS_BETWEEN_LOOKS, f"releases of {self.folder} cannot be followed")

    async def look(self) -> None:
        """Load the newest release if it is not held, and close releases that are no longer needed."""
        newest, served = await asyncio.to_thread(lambda: (read_release(self.folder), read_served(self.folder)))
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
        """Remove all addresses, so that no further requests come."""
        for servers in self.held.values():
            for server in servers:
                server.withdraw()

    async def _take(self, release: IndexRelease) -> None:
        try:
            servers = await asyncio.to_thread(self._load, release)
        except InvalidInputError:
            return  # `_load` has written the reason.
        await self._open(release.name, servers)

    async def _open(self, name: str, servers: list[ShardServer]) -> None:
        for server in servers:
            await server.start(self.host)
        self.held[name] = servers

    def _load(self, release: IndexRelease) -> list[ShardServer]:
        """Load the shards of this process; if one cannot be loaded, write the reason beside the addresses."""
        servers = []
        for shard in release.shards[self.number :: self.processes]:
            lost = sum("loading" in note for note in read_notes(shard).values())
            token = write_note(shard, {"loading": True})
            try:
                # Replicas that load it at the same time have left such a note too.
                if lost >= MAX_LOST + self.replicas:
                    raise InvalidInputError(f"{lost} processes ended while loading {shard.folder}; build it again.")
                servers.append(ShardServer(shard, token))
            except Exception as error:
                write_note(shard, {"refused": describe_error(error)}, token)
                raise InvalidInputError(f"{shard.folder} cannot be served ({error}).") from error
        return servers


class NewRelease:
    """A release that is about to take over.

    Args:
        release: the release.
        replicas: replicas of each shard to wait for.
        clock: function that returns the time in seconds.
    """

    def __init__(self, release: IndexRelease, replicas: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.release, self.replicas, self.clock = release, replicas, clock
        self.complete_since: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether requests may go to it: all replicas listen, or one replica of each shard has listened for a while."""
        fewest = min(len(read_addresses(shard)) for shard in self.release.shards)
        if fewest == 0:
            self.complete_since = None
            return False
        if self.complete_since is None:
            self.complete_since = self.clock()
        return fewest >= self.replicas or self.clock() - self.complete_since >= SECONDS_FOR_ALL

    @property
    def refusal(self) -> str | None:
        """Reason why a shard cannot be loaded, if none of its replicas listens."""
        for shard in self.release.shards:
            notes = read_notes(shard).values()
            refused = [str(note["refused"]) for note in notes if "refused" in note]
            if refused and not any("port" in note for note in notes):
                return refused[-1]
        return None
