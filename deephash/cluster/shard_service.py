"""An index in shards as a service of Ray Serve: replicas of each shard, exact merging, and nothing lost in silence."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deephash.cluster.ray_session import ray_package, ray_session
from deephash.cluster.search_application import (
    SECONDS_BETWEEN_LOOKS,
    Answer,
    SearchApplication,
    ServedRelease,
    answer_of,
    http_server,
)
from deephash.cluster.shard_client import ShardClient
from deephash.cluster.shard_server import ShardServer
from deephash.cluster.sharded_index import IndexRelease, IndexShard, read_release
from deephash.files import read_json, write_json
from deephash.http_service.host_names import served_names
from deephash.listening import listening
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

FRONT = "deephash"
SERVING = "serving.json"
# A replaced release stays for longer than fronts take to look for another one.
SECONDS_TO_LEAVE = 2.0
# A release that did not come up is tried again after as long.
SECONDS_BETWEEN_ATTEMPTS = 5.0
# Neighbours that are merged sooner than a thread takes over.
FEW_FOUND = 10_000


class ShardReplica:
    """One replica of a shard. Ray Serve starts it, watches over it and ends it; fronts ask it directly.

    Args:
        shard: an `IndexShard` as a dictionary.
        host: address to listen on; None takes the machine's own in the cluster.
    """

    def __init__(self, shard: Mapping[str, Any], host: str | None) -> None:
        torch.set_num_threads(1)
        self.server = ShardServer(IndexShard(**shard))
        self.starting = asyncio.ensure_future(self.server.start(host or ray_package().util.get_node_ip_address()))

    async def check_health(self) -> None:
        """Wait until it listens; let Ray Serve replace it once it no longer does.

        Raises:
            RuntimeError: it has ended.
        """
        await self.starting
        if not self.server.is_serving:
            raise RuntimeError("the replica has ended")

    def __del__(self) -> None:
        self.server.withdraw()


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


async def refreshed(serving: Path, served: ServedRelease | None) -> ServedRelease:
    """What is served, or the release that has come up meanwhile.

    Args:
        serving: the file that says what release is up.
        served: the release of the last look.
    """
    release = release_of(await asyncio.to_thread(read_json, serving, "the release that is served"))
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
        serving = Path(folder) / SERVING
        hosts = served_names(host, names)
        self.application = SearchApplication(lambda served: refreshed(serving, served), at_once, hosts)
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


def application(release: IndexRelease, shard: int) -> str:
    """Name of the application that serves a shard of a release."""
    return f"{FRONT}-{release.name}-{shard}"


def release_of(config: Mapping[str, Any]) -> IndexRelease:
    """The release that `serving.json` names."""
    return IndexRelease(**{**config, "shards": tuple(IndexShard(**shard) for shard in config["shards"])})


def deploy_shards(release: IndexRelease, folder: Path, replicas: int, address: str | None) -> IndexRelease:
    """Bring up the shards of a release, all at once, and let the fronts go over to them.

    All are up before the first request goes to them: no reply mixes two releases.

    Args:
        release: which.
        folder: of the sharded index, which all machines see.
        replicas: of each shard.
        address: of a Ray cluster; None for a session of this machine alone.

    Returns:
        The release.

    Raises:
        RuntimeError: a shard that does not come up.
    """
    from ray import serve

    # One machine alone has no other place for a replica, however many share its cores, and nobody else to answer.
    processors, host = (0, "127.0.0.1") if address is None else (1, None)
    shard_class = serve.deployment(
        num_replicas=replicas,
        health_check_period_s=1.0,
        health_check_timeout_s=10.0,
        ray_actor_options={"num_cpus": processors},
    )(ShardReplica)
    serve.run_many(
        [
            serve.RunTarget(shard_class.bind(asdict(shard), host), name=application(release, number), route_prefix=None)
            for number, shard in enumerate(release.shards)
        ]
    )
    write_json(folder / SERVING, asdict(release))
    return release


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


def remove_other_shards(release: IndexRelease) -> None:
    """End the shards of all other releases, after what they work on."""
    from ray import serve

    own = {application(release, number) for number in range(len(release.shards))}
    old = [name for name in serve.status().applications if name.startswith(f"{FRONT}-release-") and name not in own]
    if old:
        time.sleep(SECONDS_TO_LEAVE)  # Requests that began before the switch are on their way to the old shards.
    for name in old:
        serve.delete(name, _blocking=False)


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
    read_release(folder)  # A folder of something else is told at once.
    with listening(host, port) as free:  # Fronts share a port, so they would not notice somebody else there.
        port = free.getsockname()[1]
    # Ray's workers stand behind all other processes; those that somebody waits for should not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with ray_session(1, address):
        from ray import serve

        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        served = deploy_shards(read_release(folder), folder, replicas, address)
        deploy_fronts(folder, fronts, host, port, replicas + 1, names)
        ready(f"http://{host}:{port}", served)
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            try:
                newest = read_release(folder)
                if newest == served:
                    continue
                served = deploy_shards(newest, folder, replicas, address)
                ready(f"http://{host}:{port}", served)
                remove_other_shards(served)
            except (InvalidInputError, RuntimeError) as error:  # What is served goes on being served.
                log.error("the new release of %s does not come up, and is tried again: %s", folder, error)
                remove_other_shards(served)
                time.sleep(SECONDS_BETWEEN_ATTEMPTS)
