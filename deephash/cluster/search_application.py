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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deephash.cluster.query_batches import QueryBatches
from deephash.cluster.sharded_index import IndexRelease, ShardAnswer, merge_answers
from deephash.codes import code_bytes
from deephash.ranking.inputs import check_padding
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

# Another release is looked for as often.
SECONDS_BETWEEN_LOOKS = 0.2
MOST_QUERIES = 4096
MOST_NEIGHBOURS = 10_000
# Neighbours of all queries of a request together: what a reply holds.
MOST_FOUND = 1_000_000
MOST_BYTES = 1 << 24
# Requests that wait at once, beyond which more are turned away.
MOST_REQUESTS = 4096


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


class SearchApplication:
    """The service of one release after the other.

    Args:
        refresh: the release to serve from now on, which may be the one that is given; None before the first.
        at_once: searches that run at the same time.
    """

    def __init__(self, refresh: Callable[[ServedRelease | None], Awaitable[ServedRelease]], at_once: int) -> None:
        self.refresh = refresh
        self.served: ServedRelease | None = None
        self.looking = asyncio.Lock()
        self.batches = QueryBatches(self._search, at_once)

    async def look(self) -> ServedRelease:
        """The release to serve now; requests go to it from here on.

        Raises:
            InvalidInputError: none, or a damaged one.
        """
        async with self.looking:
            self.served = await self.refresh(self.served)
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
        if scope["type"] != "http":
            return
        body = await read_body(receive)
        if body is None:
            return
        reply, status = await self._reply(scope["method"], scope["path"].rstrip("/"), body)
        text = json.dumps(reply, separators=(",", ":")).encode()
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
        if len(body) > MOST_BYTES:
            return {"error": f"the request has more than {MOST_BYTES:,} bytes; ask in several."}, 413
        try:
            codes, k, partial = read_request(json.loads(body), release)
        except (InvalidInputError, ValueError, RecursionError) as error:
            return {"error": " ".join(str(error).split())}, 400
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
        import uvicorn
    except ImportError as error:
        raise InvalidInputError(f"deephash serve needs {error.name}; pip install 'deephash[ray-cluster]'.") from error
    return uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            limit_concurrency=MOST_REQUESTS,
        )
    )


async def read_body(receive: Any) -> bytes | None:
    """The body of a request, its first bytes where it is too long; None where the client has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        if len(body) <= MOST_BYTES:
            body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


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
    if len(given) * k > MOST_FOUND:
        raise InvalidInputError(f"{len(given)} codes with k={k}; at most {MOST_FOUND:,} neighbours a request.")
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
