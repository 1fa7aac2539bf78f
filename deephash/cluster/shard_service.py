"""An index in shards as a service of Ray Serve: replicas of each shard, exact merging, and nothing lost in silence."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from deephash.cluster.ray_session import ray_package, ray_session
from deephash.cluster.search_application import (
    Answer,
    SearchApplication,
    ServedRelease,
    answer_of,
    http_server,
)
from deephash.cluster.shard_client import ShardClient
from deephash.cluster.takeover import (
    SECONDS_BETWEEN_ATTEMPTS,
    SECONDS_BETWEEN_LOOKS,
    SERVING,
    Holder,
    NewRelease,
    forget_losses,
    served_release,
)
from deephash.indexes.index_folder import check_files, load_index
from deephash.indexes.sharded_index import IndexRelease, read_release
from deephash.io.files import reason_of, write_json
from deephash.validation import InvalidInputError
from deephash.web.http_service.host_names import served_names
from deephash.web.listening import listening

log = logging.getLogger(__name__)

FRONT = "deephash"
# Neighbours that are merged sooner than a thread takes over.
FEW_FOUND = 10_000


class ShardReplica:
    """One replica of a shard, and of those that take its place in new releases.

    Ray Serve starts it, watches over it and ends it; fronts ask it directly.

    Args:
        folder: of the sharded index.
        number: of the shard.
        processes: shards of the release that was served first, each a process.
        replicas: of each.
        host: address to listen on; None takes the machine's own in the cluster.
    """

    def __init__(self, folder: str, number: int, processes: int, replicas: int, host: str | None) -> None:
        torch.set_num_threads(1)
        host = host or ray_package().util.get_node_ip_address()
        self.holder = Holder(Path(folder), number, processes, replicas, host)
        self.starting = asyncio.ensure_future(self.holder.start())
        self.following = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        await self.starting
        await self.holder.follow()

    async def check_health(self) -> None:
        """Wait until it listens; let Ray Serve replace it once it no longer does.

        Raises:
            RuntimeError: it has ended.
        """
        await self.starting
        if self.following.done() or not self.holder.is_serving:
            raise RuntimeError("the replica has ended")

    def __del__(self) -> None:
        self.holder.close()


class ShardedRelease(ServedRelease):
    """A release whose shards are asked side by side.

    Args:
        release: what is served.
    """

    def __init__(self, release: IndexRelease) -> None:
        super().__init__(release)
        self.shards = [ShardClient(shard) for shard in release.shards]

    async def search(self, codes: np.ndarray, k: int) -> Answer:
        """The k nearest of packed codes uint8 (q, ⌈b/8⌉), with the shards that do not answer."""
        answers = list(await asyncio.gather(*(shard.search(codes, k) for shard in self.shards)))
        if len(codes) * k < FEW_FOUND:
            return answer_of(self.release, answers, k)
        return await asyncio.to_thread(answer_of, self.release, answers, k)

    def close(self) -> None:
        """End the connections to its replicas, those in use after their reply."""
        for shard in self.shards:
            shard.leave()


async def refreshed(folder: Path, served: ServedRelease | None) -> ServedRelease:
    """What is served, or the release that has come up meanwhile.

    Args:
        folder: of the sharded index.
        served: the release of the last look.
    """
    release = await asyncio.to_thread(served_release, folder)
    if served is not None and release == served.release:
        return served
    return ShardedRelease(release)


class Front:
    """Listens to HTTP, asks every shard, merges what they find, and says what is missing.

    It listens and asks by itself: Ray Serve's proxy and handles cost some milliseconds of processor time a request.

    Args:
        folder: of the sharded index, in which `serving.json` says what release is up.
        host: address to listen on.
        port: to listen on; fronts of one machine share it.
        at_once: searches that run at the same time.
        names: further host names by which the service may be asked for.
    """

    def __init__(self, folder: str, host: str, port: int, at_once: int, names: Sequence[str]) -> None:
        hosts = served_names(host, names)
        self.application = SearchApplication(lambda served: refreshed(Path(folder), served), at_once, hosts)
        self.starting = asyncio.ensure_future(self._start(host, port))

    async def _start(self, host: str, port: int) -> None:
        await self.application.look()
        opened = listening(host, port, is_shared=True)
        self.serving = asyncio.ensure_future(http_server(self.application).serve([opened]))
        self.watching = asyncio.ensure_future(self.application.watch())

    async def check_health(self) -> None:
        """Wait until it listens; let Ray Serve replace it once it no longer does.

        Raises:
            RuntimeError: it has ended.
        """
        await self.starting
        if self.serving.done() or self.watching.done():
            raise RuntimeError("the front has ended")


def deploy_shards(release: IndexRelease, folder: Path, replicas: int, address: str | None) -> None:
    """Bring up the shards of the first release, all at once.

    Args:
        release: which.
        folder: of the sharded index, which all machines see.
        replicas: of each shard.
        address: of a Ray cluster; None for a session of this machine alone.

    Raises:
        InvalidInputError: a shard that is not there.
        RuntimeError: a shard that does not come up.
    """
    from ray import serve

    for shard in release.shards:
        check_files(Path(shard.folder))

    # One machine alone has no other place for a replica, however many share its cores, and nobody else to answer.
    processors, host = (0, "127.0.0.1") if address is None else (1, None)
    processes = len(release.shards)
    forget_losses(release)
    write_json(folder / SERVING, asdict(release))
    shard_class = serve.deployment(
        num_replicas=replicas,
        health_check_period_s=1.0,
        health_check_timeout_s=10.0,
        ray_actor_options={"num_cpus": processors},
    )(ShardReplica)
    serve.run_many(
        [
            serve.RunTarget(
                shard_class.bind(str(folder.resolve()), number, processes, replicas, host),
                name=f"{FRONT}-shard-{number}",
                route_prefix=None,
            )
            for number in range(processes)
        ]
    )


def deploy_fronts(folder: Path, fronts: int, host: str, port: int, at_once: int, names: Sequence[str]) -> None:
    """Start the processes that listen, on the machine of this one.

    Args:
        folder: of a sharded index whose shards are up.
        fronts: number of processes.
        host: address to listen on.
        port: to listen on.
        at_once: searches that each runs at the same time.
        names: further host names by which the service may be asked for.
    """
    from ray import serve

    here = f"node:{ray_package().util.get_node_ip_address()}"
    front_class = serve.deployment(
        num_replicas=fronts,
        health_check_period_s=1.0,
        ray_actor_options={"num_cpus": 0, "resources": {here: 0.001}},
    )(Front)
    serve.run(front_class.bind(str(folder.resolve()), host, port, at_once, tuple(names)), name=FRONT, route_prefix=None)


def reason_not_up(release: IndexRelease, error: RuntimeError) -> InvalidInputError:
    """Why shards did not come up: the first one that cannot be loaded here either, or else what Ray Serve says."""
    for shard in release.shards:
        try:
            load_index(shard.folder)
        except InvalidInputError as found:
            return found
    return InvalidInputError(f"the shards of {release.name} do not come up ({reason_of(error)}); see the logs of Ray.")


def follow_releases(
    folder: Path, served: IndexRelease, replicas: int, ready: Callable[[IndexRelease], None], seconds: float = math.inf
) -> IndexRelease:
    """Let requests go over to each release that takes its place in a folder, as soon as all its shards can be asked.

    All are up before the first request goes to them: no reply mixes two releases.

    Args:
        folder: of the sharded index.
        served: the release that is served.
        replicas: of each shard.
        ready: is told each release that is served from now on.
        seconds: after which this ends.

    Returns:
        The release that is served then.
    """
    newer, told, end = None, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        try:
            newest = read_release(folder)
            if newest == served:
                continue
            if newer is None or newer.release != newest:
                newer = NewRelease(newest, replicas)
            if newer.is_up:
                write_json(folder / SERVING, asdict(newest))
                served = newest
                ready(served)
                continue
            refusal = newer.refusal
        except InvalidInputError as error:
            refusal = str(error)
        if refusal is not None and time.monotonic() - told >= SECONDS_BETWEEN_ATTEMPTS:
            told = time.monotonic()  # What is served goes on being served.
            log.error("the new release of %s does not come up, and is tried again: %s", folder, refusal)
    return served


def serve_shards(
    folder: Path,
    host: str,
    port: int,
    ready: Callable[[str, IndexRelease], None],
    replicas: int = 1,
    fronts: int = 1,
    address: str | None = None,
    names: Sequence[str] = (),
) -> None:
    """Serve a folder's release, and each that takes its place while queries go on; never ends by itself.

    Args:
        folder: of a sharded index.
        host: address to listen on.
        port: of HTTP; 0 takes one that is free.
        ready: is told the address and what is served, as soon as it is.
        replicas: of each shard.
        fronts: processes that listen and merge.
        address: of a Ray cluster that runs; None starts one here.
        names: further host names by which the service may be asked for.

    Raises:
        InvalidInputError: no such index, a port that is taken, or Ray is not installed.
    """
    ray_package()
    for shard in read_release(folder).shards:  # What is not there is told at once.
        check_files(Path(shard.folder))
    with listening(host, port) as free:  # Fronts share a port, so they would not notice somebody else there.
        port = free.getsockname()[1]
    # Ray's workers stand behind all other processes; those that somebody waits for should not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with ray_session(1, address):
        from ray import serve

        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        served = read_release(folder)
        try:
            deploy_shards(served, folder, replicas, address)
        except RuntimeError as error:
            raise reason_not_up(served, error) from error
        deploy_fronts(folder, fronts, host, port, replicas + 1, names)
        ready(f"http://{host}:{port}", served)
        follow_releases(folder, served, replicas, lambda release: ready(f"http://{host}:{port}", release))
