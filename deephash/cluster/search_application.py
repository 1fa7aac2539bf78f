"""An ASGI application for search over HTTP. It combines the searches of requests, and reports missing shards.

`POST /search` accepts `{"codes": [BASE64, ...], "k": 10, "partial": false}`, with a base64 string for each packed code,
and returns `{"distances", "ids", "release", "partial", "missing"}`. If a shard does not answer, even when asked again,
the status is 503. A request with `"partial": true` gets the neighbours of the other shards, and the rows of the missing
ones. `GET /status` names the served release. `"where"` of a search is a filter, and `POST /add`, `/update` and
`/remove` change an index that is open for changes; neither exists for an index in shards.
"""

import asyncio
import hmac
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deephash.cluster.change_request import MAX_ITEMS, OPERATIONS, read_filter
from deephash.cluster.polling import poll
from deephash.cluster.query_batches import QueryBatches
from deephash.cluster.request_codes import decode_codes
from deephash.codes import code_bytes
from deephash.indexes.sharded_index import IndexRelease, ShardAnswer, merge_answers
from deephash.io.files import describe_error
from deephash.validation import InvalidInputError
from deephash.web.http_service.guard import RequestGuard
from deephash.web.http_service.host_names import LOOPBACK
from deephash.web.http_service.protocol import ConnectionLimits

log = logging.getLogger(__name__)

# Polling interval for new releases.
SECONDS_BETWEEN_LOOKS = 0.2
MAX_QUERIES = 4096
MAX_NEIGHBOURS = 10_000
# Maximal number of neighbours in a reply, for all queries of the request together.
MAX_NEIGHBOURS_FOUND = 1_000_000
MAX_BYTES = 1 << 24
# Bytes of a request per code in addition to the code, with quotes, a comma and white space, and per name of a filter.
BYTES_BESIDE_CODE, BYTES_OF_NAME = 64, 64
# Maximal number of JSON values in a request, codes and names; each costs the parser memory, even if it has few bytes.
MAX_VALUES = MAX_QUERIES + MAX_ITEMS + 64
# Of a change: codes, names and some columns.
MAX_CHANGE_VALUES = 16 * MAX_ITEMS + 64
# Smaller requests (bytes) and replies (neighbours) are parsed and written faster than a thread starts.
SMALL_REQUEST, FEW_NEIGHBOURS = 1 << 16, 10_000
# Maximum number of connections, and of requests that are answered at the same time; further requests get an error.
MAX_REQUESTS = 4096


@dataclass(frozen=True)
class Answer:
    """The answer of a release to some queries.

    Args:
        release: the release.
        found: nearest items of all shards that answered; None if no shard did.
        missing: shards that did not answer, with their rows and the reason, as JSON values.
    """

    release: IndexRelease
    found: ShardAnswer | None
    missing: tuple[dict[str, Any], ...] = ()

    def cut(self, start: int, stop: int) -> "Answer":
        """Return the answer to the queries from start to stop."""
        found = self.found and ShardAnswer(
            self.found.distances[start:stop], self.found.rows[start:stop], self.found.names[start:stop]
        )
        return Answer(self.release, found, self.missing)


def combine_answers(release: IndexRelease, answers: list[ShardAnswer | str], k: int) -> Answer:
    """Combine the answers of all shards.

    Args:
        release: the release.
        answers: the answer of each shard, or the reason why there is none.
        k: number of neighbours.
    """
    missing = tuple(
        {"shard": number, "start": shard.start, "size": shard.size, "reason": answer}
        for number, (shard, answer) in enumerate(zip(release.shards, answers, strict=True))
        if isinstance(answer, str)
    )
    present = [answer for answer in answers if isinstance(answer, ShardAnswer)]
    return Answer(release, merge_answers(present, k) if present else None, missing)


class ServedRelease(ABC):
    """A release that can be searched.

    Args:
        release: the release.
    """

    def __init__(self, release: IndexRelease) -> None:
        self.release = release

    @abstractmethod
    async def search(self, codes: np.ndarray, k: int) -> Answer:
        """Find the k nearest items of packed codes uint8 (q, ⌈b/8⌉)."""

    async def search_where(self, codes: np.ndarray, k: int, where: Any) -> Answer:
        """Find the k nearest items among those that a filter selects.

        Raises:
            InvalidInputError: an invalid filter, or a release in shards.
        """
        raise InvalidInputError(
            "the service of an index in shards has no filters; leave where out, or use deephash search --where."
        )

    async def change(self, operation: str, asked: Any) -> dict[str, Any]:
        """Carry out a change, one of OPERATIONS, and return the reply.

        Raises:
            InvalidInputError: an invalid change, or an index that is not open for changes.
        """
        raise InvalidInputError("this service takes no changes; start it with --changes.")

    def close(self) -> None:  # noqa: B027 - a release in one process has nothing to close
        """Close connections; running searches finish."""


async def refresh_release(
    served: ServedRelease | None, read: Callable[[], IndexRelease], load: Callable[[IndexRelease], ServedRelease]
) -> ServedRelease:
    """Return the served release, or the current one if it is another.

    Args:
        served: the served release; None before the first.
        read: function that reads the current release.
        load: function that loads a release.
    """
    release = await asyncio.to_thread(read)
    if served is not None and release.name == served.release.name:
        return served
    return await asyncio.to_thread(load, release)


class SearchApplication:
    """An ASGI application that serves one release after the other.

    Args:
        refresh: function of the served release (None before the first); it returns the release to serve next.
        at_once: number of searches that run at the same time.
        hosts: host names and addresses that requests may use, besides the address of the connection.
        token: token that each request must contain, as `Authorization: Bearer TOKEN`; None accepts all requests.
    """

    def __init__(
        self,
        refresh: Callable[[ServedRelease | None], Awaitable[ServedRelease]],
        at_once: int,
        hosts: Sequence[str] = LOOPBACK,
        token: str | None = None,
    ) -> None:
        self.refresh = refresh
        self.token = None if token is None else f"Bearer {token}".encode()
        self.guard = RequestGuard(
            self._answer,
            hosts,
            self._max_body,
            {"X-Content-Type-Options": "nosniff"},
            field="error",
            advice="send several requests",
            max_requests=MAX_REQUESTS,
        )
        self.served: ServedRelease | None = None
        self.looking = asyncio.Lock()
        self.batches = QueryBatches(self._search, at_once)

    async def look(self) -> ServedRelease:
        """Refresh the served release, and return it.

        Raises:
            InvalidInputError: there is no release, or it is damaged.
        """
        async with self.looking:
            before = self.served
            self.served = await self.refresh(before)
            if before is not None and before is not self.served:
                before.close()
            return self.served

    async def watch(self) -> None:
        """Look for new releases until the process ends."""
        await poll(self.look, SECONDS_BETWEEN_LOOKS, "a new release cannot be served")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await self.guard(scope, receive, send)

    def _max_body(self, path: str) -> int:
        """Return the maximal number of bytes of a request."""
        if self.served is None or path.strip("/") in OPERATIONS:
            return MAX_BYTES
        return request_bytes(self.served.release.bits)

    def _is_allowed(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Return whether a request contains the token."""
        given = next((value for name, value in headers if name.lower() == b"authorization"), b"")
        return self.token is None or hmac.compare_digest(given, self.token)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        if self._is_allowed(scope["headers"]):
            reply, status = await self._reply(scope["method"], scope["path"].rstrip("/"), body)
        else:
            reply, status = {"error": "the token is missing or wrong; send Authorization: Bearer TOKEN."}, 401
        text = await write_reply(reply)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _reply(self, method: str, path: str, body: bytes) -> tuple[dict[str, Any], int]:
        served = self.served or await self.look()
        release = served.release
        if (method, path) == ("GET", "/status"):
            shards = len(release.shards)
            return {"release": release.name, "shards": shards, "size": release.size, "bits": release.bits}, 200
        if method == "POST" and path[1:] in OPERATIONS:
            return await self._change(served, path[1:], body)
        if (method, path) != ("POST", "/search"):
            return {"error": "expected POST /search or GET /status."}, 404
        try:
            if len(body) < SMALL_REQUEST:
                codes, k, partial, where = read_request(read_json_body(body), release)
            else:
                codes, k, partial, where = await asyncio.to_thread(lambda: read_request(read_json_body(body), release))
        except (InvalidInputError, ValueError, RecursionError) as error:
            return {"error": describe_error(error)}, 400
        try:
            if where is not None:
                return await self._search_where(served, codes, k, where)
            return build_reply(await self.batches.search(served, codes, k), partial)
        except Exception as error:
            if k > served.release.size:  # Items were removed since the request was read.
                return {"error": describe_error(error)}, 400
            log.exception("a search failed")
            return {"error": f"the search failed ({type(error).__name__})."}, 500

    @staticmethod
    async def _search_where(served: ServedRelease, codes: np.ndarray, k: int, where: Any) -> tuple[dict[str, Any], int]:
        try:
            return build_reply(await served.search_where(codes, k, where), partial=False)
        except InvalidInputError as error:
            return {"error": describe_error(error)}, 400

    async def _change(self, served: ServedRelease, operation: str, body: bytes) -> tuple[dict[str, Any], int]:
        try:
            asked = await asyncio.to_thread(read_json_body, body, MAX_CHANGE_VALUES)
            return await served.change(operation, asked), 200
        except (InvalidInputError, ValueError, RecursionError) as error:
            return {"error": describe_error(error)}, 400
        except Exception as error:
            log.exception("a change failed")
            return {"error": f"the change failed ({type(error).__name__})."}, 500

    async def _search(self, served: ServedRelease, codes: np.ndarray, k: int) -> Answer:
        answer = await served.search(codes, k)
        if answer.missing:
            newer = await self.look()
            # The release may have been replaced meanwhile, and its shards may have ended.
            if newer is not served and newer.release.bits == served.release.bits and k <= newer.release.size:
                answer = await newer.search(codes, k)
        return answer


def create_server(application: SearchApplication) -> Any:
    """Return a uvicorn server for an application."""
    try:
        from deephash.web.http_service import server
    except ImportError as error:
        raise InvalidInputError(f"deephash serve needs {error.name}; pip install 'deephash[ray-cluster]'.") from error
    return server.build_server(application, ConnectionLimits(connections=MAX_REQUESTS))


def request_bytes(bits: int) -> int:
    """Return the maximal size of a request, in bytes, for codes of this number of bits and names of a filter."""
    codes = MAX_QUERIES * (4 * -(-code_bytes(bits) // 3) + BYTES_BESIDE_CODE)
    return min(MAX_BYTES, codes + MAX_ITEMS * BYTES_OF_NAME)


def read_json_body(body: bytes, most: int = MAX_VALUES) -> Any:
    """Parse the JSON of a request of at most `most` values.

    Raises:
        InvalidInputError: the body has more values than a request can have.
        ValueError: the body is not JSON.
        RecursionError: values are nested too deeply.
    """
    # Each value of a list or an object follows one of these.
    if sum(map(body.count, (b"[", b"{", b","))) > most:
        most_items = f"{MAX_QUERIES} codes and {MAX_ITEMS} names" if most == MAX_VALUES else f"{MAX_ITEMS} items"
        raise InvalidInputError(f"the request has more than {most_items}; send several requests.")
    return json.loads(body)


def read_request(asked: Any, release: IndexRelease) -> tuple[np.ndarray, int, bool, Any]:
    """Return codes uint8 (q, ⌈b/8⌉), k, whether an answer from only some shards is accepted, and the filter."""
    if not isinstance(asked, dict) or not isinstance(asked.get("codes"), list):
        raise InvalidInputError('expected {"codes": [BASE64, ...], "k": 10}.')
    k, partial, texts = asked.get("k", 10), asked.get("partial", False), asked["codes"]
    if not release.size:
        raise InvalidInputError("the index has no items; add some first.")
    largest = min(MAX_NEIGHBOURS, release.size)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= largest:
        raise InvalidInputError(f"k={k!r}; expected a whole number from 1 to {largest}.")
    if not isinstance(partial, bool):
        raise InvalidInputError(f"partial={partial!r}; expected true or false.")
    if not 1 <= len(texts) <= MAX_QUERIES:
        raise InvalidInputError(f"{len(texts)} codes; expected 1 to {MAX_QUERIES} per request.")
    if len(texts) * k > MAX_NEIGHBOURS_FOUND:
        raise InvalidInputError(
            f"{len(texts)} codes with k={k}; at most {MAX_NEIGHBOURS_FOUND:,} neighbours per request."
        )
    codes = decode_codes(texts, release.bits)
    return codes, k, partial, read_filter(asked)


def build_reply(answer: Answer, partial: bool) -> tuple[dict[str, Any], int]:
    """Return the reply as JSON values, and its status; `partial` accepts an answer from only some shards."""
    common = {"release": answer.release.name, "partial": bool(answer.missing), "missing": list(answer.missing)}
    found = answer.found
    if found is None or (answer.missing and not partial):
        return {"error": f"{len(answer.missing)} of {len(answer.release.shards)} shards do not answer.", **common}, 503
    return {"distances": found.distances.tolist(), "ids": found.names.tolist(), **common}, 200


async def write_reply(reply: dict[str, Any]) -> bytes:
    """Write a reply as JSON; a thread writes a large one row by row, so that other requests continue."""

    def write(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    def write_by_rows() -> bytes:
        parts = [
            f"{write(name)}:[{','.join(map(write, value))}]"
            if isinstance(value, list)
            else f"{write(name)}:{write(value)}"
            for name, value in reply.items()
        ]
        return f"{{{','.join(parts)}}}".encode()

    if sum(map(len, reply.get("distances", ()))) < FEW_NEIGHBOURS:
        return write(reply).encode()
    return await asyncio.to_thread(write_by_rows)
