"""Search over HTTP, as an ASGI application: requests read and checked, searched together, and what is missing named.

`POST /search` takes `{"codes": [BASE64, ...], "k": 10, "partial": false}`, packed codes one by one, and gives
`{"distances", "ids", "release", "partial", "missing"}`. Where a shard does not answer, also when asked again, the reply
is status 503; a request with `"partial": true` gets what the others found, with the rows that are missing named.
`GET /status` says which release is served.
"""

import asyncio
import base64
import binascii
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deephash.cluster.query_batches import QueryBatches
from deephash.codes import code_bytes
from deephash.indexes.sharded_index import IndexRelease, ShardAnswer, merge_answers
from deephash.ranking.inputs import check_padding
from deephash.validation import InvalidInputError
from deephash.web.http_service.guard import RequestGuard
from deephash.web.http_service.host_names import LOOPBACK
from deephash.web.http_service.protocol import ConnectionLimits

log = logging.getLogger(__name__)

# Polling interval for new releases.
SECONDS_BETWEEN_LOOKS = 0.2
MAX_QUERIES = 4096
MAX_NEIGHBOURS = 10_000
# Neighbours of all queries of a request together: what a reply holds.
MAX_NEIGHBOURS_FOUND = 1_000_000
MAX_BYTES = 1 << 24
# Bytes of a request beside each code itself: quotes, a comma, white space.
BYTES_BESIDE_CODE = 64
# Values of a request beside the codes; a parser takes memory for each, however few bytes it has.
MAX_VALUES = MAX_QUERIES + 64
# Requests and replies that are read and written sooner than a thread takes over: bytes, and neighbours.
SMALL_REQUEST, FEW_NEIGHBOURS = 1 << 16, 10_000
MAX_ERROR_LETTERS = 300
# Requests that are answered at once, beyond which more are turned away; connections may be as many.
MAX_REQUESTS = 4096


@dataclass(frozen=True)
class Answer:
    """What a release answers to some queries.

    Args:
        release: that was asked.
        found: the nearest in all shards that answered; None where none did.
        missing: shards that did not answer, with their rows and the reason, as JSON values.
    """

    release: IndexRelease
    found: ShardAnswer | None
    missing: tuple[dict[str, Any], ...] = ()

    def cut(self, start: int, stop: int) -> "Answer":
        """The answer to the queries from start to stop."""
        found = self.found and ShardAnswer(
            self.found.distances[start:stop], self.found.rows[start:stop], self.found.names[start:stop]
        )
        return Answer(self.release, found, self.missing)


def answer_of(release: IndexRelease, answers: list[ShardAnswer | str], k: int) -> Answer:
    """The answers of all shards as one.

    Args:
        release: that was asked.
        answers: of each shard, or why it did not answer.
        k: number of neighbours.
    """
    missing = tuple(
        {"shard": number, "start": shard.start, "size": shard.size, "reason": answer}
        for number, (shard, answer) in enumerate(zip(release.shards, answers, strict=True))
        if isinstance(answer, str)
    )
    there = [answer for answer in answers if isinstance(answer, ShardAnswer)]
    return Answer(release, merge_answers(there, k) if there else None, missing)


class ServedRelease(ABC):
    """A release that can be searched.

    Args:
        release: which.
    """

    def __init__(self, release: IndexRelease) -> None:
        self.release = release

    @abstractmethod
    async def search(self, codes: np.ndarray, k: int) -> Answer:
        """The k nearest of packed codes uint8 (q, ⌈b/8⌉)."""

    def close(self) -> None:  # noqa: B027 - what one process holds has nothing to end
        """Leave it; searches that run end as they would."""


class SearchApplication:
    """The service of one release after the other.

    Args:
        refresh: the release to serve from now on, which may be the one that is given; None before the first.
        at_once: searches that run at the same time.
        hosts: names and addresses by which the service may be asked for, beside the address that is connected to.
    """

    def __init__(
        self,
        refresh: Callable[[ServedRelease | None], Awaitable[ServedRelease]],
        at_once: int,
        hosts: Sequence[str] = LOOPBACK,
    ) -> None:
        self.refresh = refresh
        self.guard = RequestGuard(
            self._answer,
            hosts,
            lambda path: MAX_BYTES if self.served is None else request_bytes(self.served.release.bits),
            {"X-Content-Type-Options": "nosniff"},
            field="error",
            advice="ask in several requests",
            max_requests=MAX_REQUESTS,
        )
        self.served: ServedRelease | None = None
        self.looking = asyncio.Lock()
        self.batches = QueryBatches(self._search, at_once)

    async def look(self) -> ServedRelease:
        """The release to serve now; requests go to it from here on.

        Raises:
            InvalidInputError: none, or a damaged one.
        """
        async with self.looking:
            before = self.served
            self.served = await self.refresh(before)
            if before is not None and before is not self.served:
                before.close()
            return self.served

    async def watch(self) -> None:
        """Look for another release again and again; never ends by itself."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            try:
                await self.look()
            except Exception as error:  # What is served goes on being served.
                log.error("another release cannot be served: %s", error)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        await self.guard(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        reply, status = await self._reply(scope["method"], scope["path"].rstrip("/"), body)
        text = await reply_text(reply)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _reply(self, method: str, path: str, body: bytes) -> tuple[dict[str, Any], int]:
        served = self.served or await self.look()
        release = served.release
        if (method, path) == ("GET", "/status"):
            shards = len(release.shards)
            return {"release": release.name, "shards": shards, "size": release.size, "bits": release.bits}, 200
        if (method, path) != ("POST", "/search"):
            return {"error": "expected POST /search or GET /status."}, 404
        try:
            if len(body) < SMALL_REQUEST:
                codes, k, partial = read_request(read_json_body(body), release)
            else:
                codes, k, partial = await asyncio.to_thread(lambda: read_request(read_json_body(body), release))
        except (InvalidInputError, ValueError, RecursionError) as error:
            return {"error": " ".join(str(error)[:MAX_ERROR_LETTERS].split())}, 400
        try:
            return reply_of(await self.batches.search(served, codes, k), partial)
        except Exception as error:
            log.exception("a search failed")
            return {"error": f"the search failed ({type(error).__name__})."}, 500

    async def _search(self, served: ServedRelease, codes: np.ndarray, k: int) -> Answer:
        answer = await served.search(codes, k)
        if answer.missing:
            newer = await self.look()
            # The release was replaced meanwhile, and its shards are gone.
            if newer is not served and newer.release.bits == served.release.bits and k <= newer.release.size:
                answer = await newer.search(codes, k)
        return answer


def http_server(application: SearchApplication) -> Any:
    """A server of uvicorn for an application.

    Raises:
        InvalidInputError: uvicorn is not installed.
    """
    try:
        from deephash.web.http_service import server
    except ImportError as error:
        raise InvalidInputError(f"deephash serve needs {error.name}; pip install 'deephash[ray-cluster]'.") from error
    return server.http_server(application, ConnectionLimits(connections=MAX_REQUESTS))


def request_bytes(bits: int) -> int:
    """Bytes that a request of codes of so many bits may have."""
    return min(MAX_BYTES, MAX_QUERIES * (4 * -(-code_bytes(bits) // 3) + BYTES_BESIDE_CODE))


def read_json_body(body: bytes) -> Any:
    """The JSON value in a body, unless it has more values than any request.

    Raises:
        InvalidInputError: too many values.
        ValueError: no JSON.
        RecursionError: values within values within values.
    """
    # Each value of a list or an object stands behind one of these.
    if sum(map(body.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise InvalidInputError(f"the request has more than {MAX_QUERIES} codes; ask in several requests.")
    return json.loads(body)


def read_request(asked: Any, release: IndexRelease) -> tuple[np.ndarray, int, bool]:
    """Codes uint8 (q, ⌈b/8⌉), k, and whether a part of the shards will do.

    Raises:
        InvalidInputError: a request that is not of this form, or of another code length.
    """
    if not isinstance(asked, dict) or not isinstance(asked.get("codes"), list):
        raise InvalidInputError('expected {"codes": [BASE64, ...], "k": 10}.')
    k, partial, given = asked.get("k", 10), asked.get("partial", False), asked["codes"]
    most = min(MAX_NEIGHBOURS, release.size)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise InvalidInputError(f"k={k!r}; expected a whole number from 1 to {most}.")
    if not isinstance(partial, bool):
        raise InvalidInputError(f"partial={partial!r}; expected true or false.")
    if not 1 <= len(given) <= MAX_QUERIES:
        raise InvalidInputError(f"{len(given)} codes; expected 1 to {MAX_QUERIES} a request.")
    if len(given) * k > MAX_NEIGHBOURS_FOUND:
        raise InvalidInputError(
            f"{len(given)} codes with k={k}; at most {MAX_NEIGHBOURS_FOUND:,} neighbours a request."
        )
    width = code_bytes(release.bits)
    try:
        packed = [base64.b64decode(code, validate=True) for code in given]
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidInputError(f"a code is no base64 ({error}).") from error
    if any(len(code) != width for code in packed):
        raise InvalidInputError(f"a code is not of {width} bytes, which {release.bits} bits take.")
    codes = np.frombuffer(bytearray(b"".join(packed)), np.uint8).reshape(len(packed), width)
    check_padding(torch.from_numpy(codes), release.bits, "codes")
    return codes, k, partial


def reply_of(answer: Answer, partial: bool) -> tuple[dict[str, Any], int]:
    """The reply in JSON values, and its status.

    Args:
        answer: of all shards that gave one.
        partial: whether a part of the shards will do.
    """
    said = {"release": answer.release.name, "partial": bool(answer.missing), "missing": list(answer.missing)}
    found = answer.found
    if found is None or (answer.missing and not partial):
        return {"error": f"{len(answer.missing)} of {len(answer.release.shards)} shards do not answer.", **said}, 503
    return {"distances": found.distances.tolist(), "ids": found.names.tolist(), **said}, 200


async def reply_text(reply: dict[str, Any]) -> bytes:
    """A reply as JSON; a large one is written row by row by a thread, so that other requests go on."""

    def written(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    def written_by_rows() -> bytes:
        parts = [
            f"{written(name)}:[{','.join(map(written, value))}]"
            if isinstance(value, list)
            else f"{written(name)}:{written(value)}"
            for name, value in reply.items()
        ]
        return f"{{{','.join(parts)}}}".encode()

    if sum(map(len, reply.get("distances", ()))) < FEW_NEIGHBOURS:
        return written(reply).encode()
    return await asyncio.to_thread(written_by_rows)
