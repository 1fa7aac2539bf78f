"""A guard before an application: it refuses foreign hosts and sites, and limits request bodies."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, final

from deephash.web.http_service.host_names import is_named, is_same_origin, parse_host

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

# Total bytes of bodies that have been read but not answered.
MAX_BUFFERED_BYTES = 256 * 2**20
# Largest refused body that is read and dropped, since most clients read the reply only after sending everything.
MAX_DROPPED_BYTES = 64 * 2**20


class RefusedRequestError(Exception):
    """A refused request.

    Args:
        status: status of the reply.
        reason: the reason in one sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@final
class RequestGuard:
    """An ASGI application that guards another.

    Requests must address the server by one of its names. Otherwise, a web site could read the server under a foreign
    name that resolves to this machine (DNS rebinding). Bodies are read completely before the application is called, so
    that slow senders do not occupy it.

    Args:
        app: application for the accepted requests.
        hosts: names and addresses of the server, besides the address of the connection.
        max_body: path → largest size of a body in bytes. A body with a larger Content-Length is dropped while it
            arrives; any other body is read only up to this size.
        headers: headers added to every reply.
        field: key of the reason in the JSON object of a refusal.
        advice: remedy for a body that is too large.
        max_requests: concurrent requests to the application; further ones get status 503.
        max_buffered: total bytes of bodies in memory; further ones get status 503.
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
        """Answer an ASGI request."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        body = bytearray()
        try:
            self._check_sender(scope)
            if not await self._read(scope, receive, body):
                return  # The client has disconnected.
            if self.requests >= self.max_requests:
                raise RefusedRequestError(503, "The server is busy; try again.")
            self.requests += 1
            try:
                await self.application(scope, self._replay(bytes(body), receive), self._add_headers(send))
            finally:
                self.requests -= 1
        except RefusedRequestError as refusal:
            text = json.dumps({self.field: refusal.reason}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
            start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
            await self._add_headers(send)(start)
            await send({"type": "http.response.body", "body": text})
        finally:
            self.buffered -= len(body)

    def _check_sender(self, scope: Any) -> None:
        """Raise an error for names of other hosts and pages of other sites."""
        host, origin = get_header(scope, b"host"), get_header(scope, b"origin")
        name = None if host is None else parse_host(host)
        if name is None:
            raise RefusedRequestError(400, "The Host header is missing or malformed.")
        address = (scope.get("server") or ("",))[0]
        if name != str(address).lower() and not is_named(name, self.hosts):
            raise RefusedRequestError(400, f"{name[:100]} is not a name of this server; allow it with --name.")
        if origin is not None and not is_same_origin(origin, host or ""):
            raise RefusedRequestError(403, "Only the page of this server may send requests.")

    async def _read(self, scope: Any, receive: Receive, body: bytearray) -> bool:
        """Read the whole body, and return False if the client has disconnected."""
        limit = self.max_body(scope["path"])
        too_large = f"This is larger than the limit of {format_size(limit)}; {self.advice}."
        announced = read_content_length(scope)
        if announced > limit:
            more = announced <= MAX_DROPPED_BYTES
            while more:
                message = await receive()
                more = message.get("more_body", False)
            raise RefusedRequestError(413, too_large)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            part = message.get("body", b"")
            if len(body) + len(part) > limit:
                raise RefusedRequestError(413, too_large)
            if self.buffered + len(part) > self.max_buffered:
                raise RefusedRequestError(503, "The server is busy; try again.")
            body += part
            self.buffered += len(part)
            if not message.get("more_body", False):
                return True

    def _replay(self, body: bytes, receive: Receive) -> Receive:
        """Return a receive function that returns the whole body at once, then the further messages."""
        first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        return replay

    def _add_headers(self, send: Send) -> Send:
        replaced = {name for name, _ in self.headers}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in replaced]
                message = {**message, "headers": [*others, *self.headers]}
            await send(message)

        return send_with_headers


def get_header(scope: Any, name: bytes) -> str | None:
    """Return the value of a header, or None without it.

    Raises:
        RefusedRequestError: the header appears several times.
    """
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        raise RefusedRequestError(400, f"The request has {len(values)} headers {name.decode()}; expected one.")
    return str(values[0].decode("latin-1")) if values else None


def read_content_length(scope: Any) -> int:
    """Return the Content-Length of a request, 0 without it.

    Raises:
        RefusedRequestError: the header is not a whole number.
    """
    length = get_header(scope, b"content-length") or "0"
    if not (length.isascii() and length.isdecimal()):
        raise RefusedRequestError(400, "The Content-Length header is malformed.")
    return int(length[:18])


def format_size(size: int) -> str:
    """Format a number of bytes."""
    return f"{size // 2**20} MB" if size >= 2**20 else f"{size // 1000} kB" if size >= 1000 else f"{size} bytes"
