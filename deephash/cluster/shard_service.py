"""An index in shards as a service of Ray Serve: replicas of each shard, exact merging, and nothing lost in silence.

`POST /search` takes `{"codes": [BASE64, ...], "k": 10, "partial": false}`, packed codes one by one, and gives
`{"distances", "ids", "partial", "missing", "release"}`. Where a shard does not answer, also when asked again, the reply
is status 503; a request with `"partial": true` gets what the others found, with the rows that are missing named.
`GET /status` says which release is served.
"""

import asyncio
import base64
import binascii
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deephash.cluster.ray_session import ray_package
from deephash.cluster.sharded_index import (
    IndexRelease,
    IndexShard,
    OpenShard,
    ShardAnswer,
    merge_answers,
    read_release,
)
from deephash.codes import code_bytes
from deephash.files import read_json, write_json
from deephash.ranking.inputs import check_padding
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

FRONT = "deephash"
SERVING = "serving.json"
# A front looks for another release as often, and a replaced one stays for longer.
SECONDS_BETWEEN_LOOKS, SECONDS_TO_LEAVE = 0.2, 2.0
# A shard that has not answered within this is asked again, of another replica where there is one.
SECONDS_TO_ANSWER = 5.0
ATTEMPTS = 3
MOST_QUERIES = 4096
MOST_NEIGHBOURS = 10_000


class ShardReplica:
    """One replica of a shard: holds its index, one search at a time.

    Args:
        shard: an `IndexShard` as a dictionary.
    """

    def __init__(self, shard: Mapping[str, Any]) -> None:
        self.shard = OpenShard(IndexShard(**shard))
        # A replica claims one processor: searches side by side would only slow each other.
        self.lock = threading.Lock()

    async def search(self, codes: np.ndarray, k: int) -> ShardAnswer:
        """The k nearest of packed codes uint8 (q, ⌈b/8⌉)."""
        return await asyncio.to_thread(self._search, np.array(codes), k)

    def _search(self, codes: np.ndarray, k: int) -> ShardAnswer:
        with self.lock:
            return self.shard.search(torch.from_numpy(codes), k)


@dataclass(frozen=True)
class ServedRelease:
    """A release with the way to each shard.

    Args:
        release: what is served.
        handles: of the shards, in their order.
    """

    release: IndexRelease
    handles: list[Any]


class Front:
    """Asks every shard, merges what they find, and says what is missing.

    Args:
        folder: of the sharded index, in which `serving.json` says what release is up.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / SERVING
        self.served = self._read()
        self.read_at = time.monotonic()

    def current(self) -> ServedRelease:
        """The release to ask: one that has come up in the meantime from the next request on."""
        if time.monotonic() - self.read_at > SECONDS_BETWEEN_LOOKS:
            self.read_at = time.monotonic()
            served = self._read()
            if served.release != self.served.release:
                self.served = served
        return self.served

    def _read(self) -> ServedRelease:
        from ray import serve

        release = release_of(read_json(self.path, "the release that is served"))
        handles = [serve.get_app_handle(application(release, number)) for number in range(len(release.shards))]
        return ServedRelease(release, handles)

    async def __call__(self, request: Any) -> Any:
        """Answer a request of HTTP."""
        from starlette.responses import JSONResponse

        served = self.current()
        if request.method == "GET" and request.url.path.rstrip("/") == "/status":
            release = served.release
            shards = len(release.shards)
            return JSONResponse({"release": release.name, "shards": shards, "size": release.size, "bits": release.bits})
        if request.method != "POST" or request.url.path.rstrip("/") != "/search":
            return JSONResponse({"error": "expected POST /search or GET /status."}, 404)
        try:
            asked = await request.json()
            codes, k, partial = read_request(asked, served.release)
        except (InvalidInputError, ValueError) as error:
            return JSONResponse({"error": " ".join(str(error).split())}, 400)
        answers = await self._ask_all(served, codes, k)
        if any(isinstance(answer, str) for answer in answers) and self.current() is not served:
            # The release was replaced meanwhile, and its shards are gone.
            served = self.served
            answers = await self._ask_all(served, codes, k)
        reply, status = reply_of(served.release, answers, k, partial)
        return JSONResponse(reply, status)

    async def _ask_all(self, served: ServedRelease, codes: np.ndarray, k: int) -> list[ShardAnswer | str]:
        return list(await asyncio.gather(*(self._ask(handle, codes, k) for handle in served.handles)))

    async def _ask(self, handle: Any, codes: np.ndarray, k: int) -> ShardAnswer | str:
        """What a shard found, or why it does not answer."""
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                found: ShardAnswer = await asyncio.wait_for(handle.search.remote(codes, k), SECONDS_TO_ANSWER)
                return found
            except asyncio.CancelledError:
                raise
            except TimeoutError:
                reason = f"no answer within {SECONDS_TO_ANSWER} s"
            except Exception as error:  # Ray's errors of lost actors, and whatever a replica raised
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                await asyncio.sleep(0.05)
        return reason


def read_request(asked: Any, release: IndexRelease) -> tuple[np.ndarray, int, bool]:
    """Codes uint8 (q, ⌈b/8⌉), k, and whether a part of the shards will do.

    Raises:
        InvalidInputError: a request that is not of this form, or of another code length.
    """
    if not isinstance(asked, dict) or not isinstance(asked.get("codes"), list):
        raise InvalidInputError('expected {"codes": [BASE64, ...], "k": 10}.')
    k, partial, given = asked.get("k", 10), asked.get("partial", False), asked["codes"]
    most = min(MOST_NEIGHBOURS, release.size)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise InvalidInputError(f"k={k!r}; expected a whole number from 1 to {most}.")
    if not isinstance(partial, bool):
        raise InvalidInputError(f"partial={partial!r}; expected true or false.")
    if not 1 <= len(given) <= MOST_QUERIES:
        raise InvalidInputError(f"{len(given)} codes; expected 1 to {MOST_QUERIES} a request.")
    width = code_bytes(release.bits)
    try:
        packed = [base64.b64decode(code, validate=True) for code in given]
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidInputError(f"a code is no base64 ({error}).") from error
    if any(len(code) != width for code in packed):
        raise InvalidInputError(f"a code is not of {width} bytes, which {release.bits} bits take.")
    codes = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), width)
    check_padding(torch.from_numpy(codes.copy()), release.bits, "codes")
    return codes, k, partial


def reply_of(
    release: IndexRelease, answers: list[ShardAnswer | str], k: int, partial: bool
) -> tuple[dict[str, Any], int]:
    """The reply in JSON values, and its status.

    Args:
        release: that was asked.
        answers: of each shard, or why it did not answer.
        k: number of neighbours.
        partial: whether a part of the shards will do.
    """
    missing = [
        {"shard": number, "start": shard.start, "size": shard.size, "reason": answer}
        for number, (shard, answer) in enumerate(zip(release.shards, answers, strict=True))
        if isinstance(answer, str)
    ]
    there = [answer for answer in answers if isinstance(answer, ShardAnswer)]
    reply: dict[str, Any] = {"release": release.name, "partial": bool(missing), "missing": missing}
    if missing and (not partial or not there):
        return {"error": f"{len(missing)} of {len(answers)} shards do not answer.", **reply}, 503
    found = merge_answers(there, k)
    return {"distances": found.distances.tolist(), "ids": found.names.tolist(), **reply}, 200


def application(release: IndexRelease, shard: int) -> str:
    """Name of the application that serves a shard of a release."""
    return f"{FRONT}-{release.name}-{shard}"


def release_of(config: Mapping[str, Any]) -> IndexRelease:
    """The release that `serving.json` names."""
    return IndexRelease(**{**config, "shards": tuple(IndexShard(**shard) for shard in config["shards"])})


def deploy(folder: Path, replicas: int = 1, fronts: int = 1, *, is_first: bool = True) -> IndexRelease:
    """Serve the release of a folder, in place of whatever release is served; queries go on all the while.

    All shards of the new release are up before the first request goes to them, and those of the old one end after the
    last has left them: no reply mixes two releases.

    Args:
        folder: of a sharded index, which all machines see.
        replicas: of each shard.
        fronts: processes that merge.
        is_first: whether fronts are to be started too.

    Returns:
        The release.

    Raises:
        InvalidInputError: no such index, or Ray is not installed.
    """
    ray_package()
    from ray import serve

    release = read_release(folder)
    shard_class = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=16,
        health_check_period_s=1.0,
        health_check_timeout_s=10.0,
        graceful_shutdown_timeout_s=2 * SECONDS_TO_ANSWER,
        ray_actor_options={"num_cpus": 1},
    )(ShardReplica)
    for number, shard in enumerate(release.shards):
        serve.run(shard_class.bind(asdict(shard)), name=application(release, number), route_prefix=None)
    write_json(folder / SERVING, asdict(release))
    if is_first:
        front_class = serve.deployment(
            num_replicas=fronts, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0}
        )(Front)
        serve.run(front_class.bind(str(folder.resolve())), name=FRONT, route_prefix="/")
    old = [name for name in serve.status().applications if is_shard(name) and not is_shard(name, release)]
    if old:
        time.sleep(SECONDS_TO_LEAVE)  # Requests that began before the switch are on their way to the old shards.
    for name in old:
        serve.delete(name)
    return release


def is_shard(name: str, release: IndexRelease | None = None) -> bool:
    """Whether an application serves a shard, of a release or of any."""
    return name.startswith(f"{FRONT}-{'release-' if release is None else release.name + '-'}")


def serve_folder(
    folder: Path, replicas: int, fronts: int, port: int, host: str, workers: int | None, address: str | None
) -> Iterable[IndexRelease]:
    """Serve a folder's release, and each that takes its place, giving each as it is served; never ends by itself.

    Args:
        folder: of a sharded index.
        replicas: of each shard.
        fronts: processes that merge.
        port: of HTTP.
        host: address to listen on.
        workers: processors that a session on this machine alone offers; None for as many as the replicas claim.
        address: of a Ray cluster that runs; None starts one here.

    Raises:
        InvalidInputError: no such index, or Ray is not installed.
    """
    from deephash.cluster.ray_session import ray_session

    release = read_release(folder)
    wanted = workers or 2 * replicas * len(release.shards) + 1
    with ray_session(wanted, address):
        from ray import serve

        quiet = {"log_level": "ERROR"}
        serve.start(http_options={"host": host, "port": port}, logging_config=quiet)
        served = deploy(folder, replicas, fronts)
        yield served
        while True:
            time.sleep(1.0)
            if read_release(folder).name != served.name:
                served = deploy(folder, replicas, is_first=False)
                yield served
