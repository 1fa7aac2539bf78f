"""What stands before an application: foreign names and sites are refused, bodies are read within bounds."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, final

from deephash.web.http_service.host_names import host_of, is_named, is_same_origin

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

# Bytes of all bodies together that are read and not answered yet.
MAX_BUFFERED_BYTES = 256 * 2**20
# Bytes of a refused body that are taken and dropped: most clients read no reply before they have sent all.
MAX_DROPPED_BYTES = 64 * 2**20


class RefusedRequestError(Exception):
    """A request that is refused.

    Args:
        status: of the reply.
        reason: in a sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@final
class RequestGuard:
    """An ASGI application around another.

    A name of somebody else's that resolves to this machine is no name of this server: without the check a web site
    could read it by such a name (DNS rebinding). A body is read as a whole before the application is asked, so that
    slow senders occupy none of its places.

    Args:
        app: which gets the requests that are not refused.
        hosts: names and addresses by which the server may be asked for, beside the address that is connected to.
        max_body: path → bytes that a body may have; what claims more is dropped as it comes, what turns out to have
            more is not read on.
        headers: added to every reply.
        field: of the JSON object of a refusal that says why.
        advice: what to do about a body that is too large.
        max_requests: that the application works on at once; more are turned away with status 503.
        max_buffered: bytes of the bodies that are held at once; more are turned away with status 503.
    """

    def __init__(
        self,
        app: Application,
        hosts: Sequence[str],
        max_body: Callable[[str], int],
        headers: Mapping[str, str] | None = None,
        field: str = "detail",
        advice: str = "choose a smaller one",
        max_requests: int = 32,
        max_buffered: int = MAX_BUFFERED_BYTES,
    ) -> None:
        self.application, self.hosts, self.max_body = app, tuple(hosts), max_body
        self.headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        self.field, self.advice = field, advice
        self.max_requests, self.max_buffered = max_requests, max_buffered
        self.requests = self.buffered = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        held = bytearray()
        try:
            self._check_sender(scope)
            if not await self._read(scope, receive, held):
                return  # The client has gone.
            if self.requests >= self.max_requests:
                raise RefusedRequestError(503, "The server is busy; ask again.")
            self.requests += 1
            try:
                await self.application(scope, self._replayed(bytes(held), receive), self._with_headers(send))
            finally:
                self.requests -= 1
        except RefusedRequestError as refusal:
            text = json.dumps({self.field: refusal.reason}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
            start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
            await self._with_headers(send)(start)
            await send({"type": "http.response.body", "body": text})
        finally:
            self.buffered -= len(held)

    def _check_sender(self, scope: Any) -> None:
        """Raise an error for other hosts' names and other sites' pages."""
        host, origin = only_header(scope, b"host"), only_header(scope, b"origin")
        named = None if host is None else host_of(host)
        if named is None:
            raise RefusedRequestError(400, "The Host header is missing or malformed.")
        address = (scope.get("server") or ("",))[0]
        if named != str(address).lower() and not is_named(named, self.hosts):
            raise RefusedRequestError(400, f"{named[:100]} is no name of this server; allow it with --name.")
        if origin is not None and not is_same_origin(origin, host or ""):
            raise RefusedRequestError(403, "Requests come from this server's own page alone.")

    async def _read(self, scope: Any, receive: Receive, held: bytearray) -> bool:
        """Read the whole body; False where the client has gone."""
        most = self.max_body(scope["path"])
        too_large = f"This is larger than the {size_text(most)} that are taken; {self.advice}."
        claimed = claimed_bytes(scope)
        if claimed > most:
            more = claimed <= MAX_DROPPED_BYTES
            while more:
                message = await receive()
                more = message.get("more_body", False)
            raise RefusedRequestError(413, too_large)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            part = message.get("body", b"")
            if len(held) + len(part) > most:
                raise RefusedRequestError(413, too_large)
            if self.buffered + len(part) > self.max_buffered:
                raise RefusedRequestError(503, "The server is busy; ask again.")
            held += part
            self.buffered += len(part)
            if not message.get("more_body", False):
                return True

    def _replayed(self, body: bytes, receive: Receive) -> Receive:
        """What the application receives: the body at once, then that the client has gone."""
        first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Message:
            return first.pop() if first else await receive()

        return replayed

    def _with_headers(self, send: Send) -> Send:
        own = {name for name, _ in self.headers}

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in own]
                message = {**message, "headers": [*others, *self.headers]}
            await send(message)

        return sent


def only_header(scope: Any, name: bytes) -> str | None:
    """A header that a request has at most once; None where it has none.

    Raises:
        RefusedRequestError: it has several.
    """
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise RefusedRequestError(400, f"The request has {len(found)} headers {name.decode()}; expected one.")
    return str(found[0].decode("latin-1")) if found else None


def claimed_bytes(scope: Any) -> int:
    """Bytes of the body by the request's own account; 0 where it has none.

    Raises:
        RefusedRequestError: no number.
    """
    claimed = only_header(scope, b"content-length") or "0"
    if not (claimed.isascii() and claimed.isdecimal()):
        raise RefusedRequestError(400, "The Content-Length header is malformed.")
    return int(claimed[:18])


def size_text(size: int) -> str:
    """A number of bytes in words."""
    return f"{size // 2**20} MB" if size >= 2**20 else f"{size // 1000} kB" if size >= 1000 else f"{size} bytes"
