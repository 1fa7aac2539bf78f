"""Serve an index in shards with Ray Serve: replicas of each shard, exact merging, and missing shards reported."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deephash.cluster.ray_session import import_ray, ray_session
from deephash.cluster.search_application import (
    Answer,
    SearchApplication,
    ServedRelease,
    combine_answers,
    create_server,
    refresh_release,
)
from deephash.cluster.shard_client import ShardClient
from deephash.cluster.takeover import (
    SECONDS_BETWEEN_ATTEMPTS,
    SECONDS_BETWEEN_LOOKS,
    SERVING,
    Holder,
    NewRelease,
    forget_losses,
    read_served,
)
from deephash.indexes.index_folder import check_files, load_index
from deephash.indexes.sharded_index import IndexRelease, read_release
from deephash.io.files import describe_error, write_json
from deephash.validation import InvalidInputError
from deephash.web.http_service.host_names import list_host_names
from deephash.web.listening import open_listener

log = logging.getLogger(__name__)

FRONT = "deephash"
# Fewer neighbours are merged faster than a thread starts.
FEW_FOUND = 10_000


class ShardReplica:
    """One replica of a shard, and of the shards that replace it in new releases.

    Ray Serve starts it, monitors it and ends it; fronts connect to it directly.

    Args:
        folder: folder of the sharded index.
        number: number of the shard.
        processes: number of shards of the first release; each has a process.
        replicas: replicas of each shard.
        host: address to listen on; None uses the address of the machine in the cluster.
    """

    def __init__(self, folder: str, number: int, processes: int, replicas: int, host: str | None) -> None:
        torch.set_num_threads(1)
        host = host or import_ray().util.get_node_ip_address()
        self.holder = Holder(Path(folder), number, processes, replicas, host)
        self.starting = asyncio.ensure_future(self.holder.start())
        self.following = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        await self.starting
        await self.holder.follow()

    async def check_health(self) -> None:
        """Wait until it listens; raise RuntimeError once it has ended, so that Ray Serve replaces it."""
        await self.starting
        if self.following.done() or not self.holder.is_serving:
            raise RuntimeError("the replica has ended")

    def __del__(self) -> None:
        self.holder.close()


class ShardedRelease(ServedRelease):
    """A release whose shards are asked at the same time.

    Args:
        release: the release to serve.
    """

    def __init__(self, release: IndexRelease) -> None:
        super().__init__(release)
        self.shards = [ShardClient(shard) for shard in release.shards]

    async def search(self, codes: np.ndarray, k: int) -> Answer:
        """Find the k nearest items of packed codes uint8 (q, ⌈b/8⌉), and the shards that do not answer."""
        answers = list(await asyncio.gather(*(shard.search(codes, k) for shard in self.shards)))
        if len(codes) * k < FEW_FOUND:
            return combine_answers(self.release, answers, k)
        return await asyncio.to_thread(combine_answers, self.release, answers, k)

    def close(self) -> None:
        """Close the connections to its replicas; connections in use are closed after their reply."""
        for shard in self.shards:
            shard.leave()


async def refresh_shards(folder: Path, served: ServedRelease | None) -> ServedRelease:
    """Return the served release, or the one that has taken over meanwhile."""
    return await refresh_release(served, partial(read_served, folder), ShardedRelease)


class Front:
    """A process that listens to HTTP, asks every shard, merges their answers, and reports missing shards.

    It does not use Ray Serve's proxy and handles, which would add milliseconds of processor time to each request.

    Args:
        folder: folder of the sharded index, in which `serving.json` names the served release.
        host: address to listen on.
        port: port to listen on; fronts of one machine share it.
        at_once: number of searches that run at the same time.
        names: additional host names that requests may use.
    """

    def __init__(self, folder: str, host: str, port: int, at_once: int, names: Sequence[str]) -> None:
        hosts = list_host_names(host, names)
        self.application = SearchApplication(partial(refresh_shards, Path(folder)), at_once, hosts)
        self.starting = asyncio.ensure_future(self._start(host, port))

    async def _start(self, host: str, port: int) -> None:
        await self.application.look()
        opened = open_listener(host, port, is_shared=True)
        self.serving = asyncio.ensure_future(create_server(self.application).serve([opened]))
        self.watching = asyncio.ensure_future(self.application.watch())

    async def check_health(self) -> None:
        """Wait until it listens; raise RuntimeError once it has ended, so that Ray Serve replaces it."""
        await self.starting
        if self.serving.done() or self.watching.done():
            raise RuntimeError("the front has ended")


def deploy_shards(release: IndexRelease, folder: Path, replicas: int, address: str | None) -> None:
    """Start the replicas of all shards of the first release at once.

    Args:
        release: the release.
        folder: folder of the sharded index, which all machines can read.
        replicas: replicas of each shard.
        address: address of a Ray cluster; None if the session only has this machine.

    Raises:
        InvalidInputError: a shard is missing.
        RuntimeError: a shard does not start.
    """
    from ray import serve

    for shard in release.shards:
        check_files(Path(shard.folder))

    # Without a cluster, all replicas share the cores of this machine, and only this machine connects to them.
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
    """Start the fronts on this machine.

    Args:
        folder: folder of a sharded index whose shards are available.
        fronts: number of processes.
        host: address to listen on.
        port: port to listen on.
        at_once: number of searches that each front runs at the same time.
        names: additional host names that requests may use.
    """
    from ray import serve

    here = f"node:{import_ray().util.get_node_ip_address()}"
    front_class = serve.deployment(
        num_replicas=fronts,
        health_check_period_s=1.0,
        ray_actor_options={"num_cpus": 0, "resources": {here: 0.001}},
    )(Front)
    serve.run(front_class.bind(str(folder.resolve()), host, port, at_once, tuple(names)), name=FRONT, route_prefix=None)


def explain_failed_start(release: IndexRelease, error: RuntimeError) -> InvalidInputError:
    """Return the error of the first shard that fails to load here too; if all load, return the error of Ray Serve."""
    for shard in release.shards:
        try:
            load_index(shard.folder)
        except InvalidInputError as found:
            return found
    return InvalidInputError(
        f"the shards of {release.name} do not start ({describe_error(error)}); see the logs of Ray."
    )


def follow_releases(
    folder: Path, served: IndexRelease, replicas: int, ready: Callable[[IndexRelease], None], seconds: float = math.inf
) -> IndexRelease:
    """Serve each new release in a folder as soon as all its shards are available.

    Requests only go to a release once all its shards are available, so no reply mixes two releases.

    Args:
        folder: folder of the sharded index.
        served: the served release.
        replicas: replicas of each shard.
        ready: called with each release once it is served.
        seconds: time after which the function returns.

    Returns:
        The release that is served at the end.
    """
    newer, logged_at, end = None, 0.0, time.monotonic() + seconds
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
        if refusal is not None and time.monotonic() - logged_at >= SECONDS_BETWEEN_ATTEMPTS:
            logged_at = time.monotonic()  # The current release is still served.
            log.error("the new release of %s does not start, and is tried again: %s", folder, refusal)
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
    """Serve the release of a folder, and each release that replaces it, until interrupted.

    Args:
        folder: folder of a sharded index.
        host: address to listen on.
        port: HTTP port; 0 chooses a free one.
        ready: called with the address and each release once it is served.
        replicas: replicas of each shard.
        fronts: number of processes that listen and merge.
        address: address of a running Ray cluster; None starts one here.
        names: additional host names that requests may use.

    Raises:
        InvalidInputError: the folder contains no such index, the port is taken, or Ray is not installed.
    """
    import_ray()
    for shard in read_release(folder).shards:  # Report missing files at once.
        check_files(Path(shard.folder))
    with open_listener(host, port) as free:  # Fronts share a port, so they would not notice another program there.
        port = free.getsockname()[1]
    # Ray's workers have low priority by default, but users wait for these workers.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with ray_session(1, address):
        from ray import serve

        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        served = read_release(folder)
        try:
            deploy_shards(served, folder, replicas, address)
        except RuntimeError as error:
            raise explain_failed_start(served, error) from error
        deploy_fronts(folder, fronts, host, port, replicas + 1, names)
        ready(f"http://{host}:{port}", served)
        follow_releases(folder, served, replicas, lambda release: ready(f"http://{host}:{port}", release))
