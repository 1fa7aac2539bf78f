"""A uvicorn protocol with limits on how long it waits for requests, and for clients to read replies."""

import asyncio
from dataclasses import dataclass
from typing import Any, final

REASONS = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


@final
@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of a connection.

    Args:
        head_seconds: time from the connection, or the previous reply, to the end of the headers of a request.
        body_seconds: time from the end of the headers to the end of the body.
        reply_seconds: time in which a client must read a reply.
        head_bytes: size of the first line and the headers of a request.
        connections: concurrent connections; further ones get status 503.
    """

    head_seconds: float = 10.0
    body_seconds: float = 60.0
    reply_seconds: float = 60.0
    head_bytes: int = 65_536
    connections: int = 512


def limit_protocol(base: Any, limits: ConnectionLimits) -> Any:
    """Return a subclass of a uvicorn protocol with limits.

    Uvicorn alone waits forever, so a few slow clients could keep all others out.

    Args:
        base: protocol of uvicorn for h11 or httptools.
        limits: the limits.
    """

    class LimitedProtocol(base):  # type: ignore[misc]
        """Protocol that limits each wait of a connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            """Handle a new connection."""
            self.received_bytes = 0
            self.awaited: tuple[str, Any] = ("", None)
            self.reading: asyncio.TimerHandle | None = None
            self.writing: asyncio.TimerHandle | None = None
            super().connection_made(transport)
            self.watch()

        def data_received(self, data: bytes) -> None:
            """Handle a part of a request."""
            self.received_bytes += len(data)
            super().data_received(data)
            self.watch()
            if self.awaited[0] == "head" and self.received_bytes > limits.head_bytes:
                self.refuse(431)

        def on_response_complete(self) -> None:
            """Handle the end of a reply."""
            self.received_bytes = 0
            super().on_response_complete()
            self.watch()

        def connection_lost(self, error: Exception | None) -> None:
            """Handle the end of the connection."""
            for timer in (self.reading, self.writing):
                if timer is not None:
                    timer.cancel()
            self.awaited = ("end", None)
            super().connection_lost(error)

        def pause_writing(self) -> None:
            """Limit the wait of a client that does not read the reply."""
            self.writing = self.loop.call_later(limits.reply_seconds, self.transport.abort)
            super().pause_writing()

        def resume_writing(self) -> None:
            """Handle a client that reads the reply again."""
            if self.writing is not None:
                self.writing.cancel()
            super().resume_writing()

        def watch(self) -> None:
            """Start the timer of the current wait, unless it is running."""
            cycle = self.cycle
            if cycle is None or (cycle.response_complete and not cycle.more_body):
                awaited, seconds = ("head", cycle), limits.head_seconds
            elif cycle.more_body:
                awaited, seconds = ("body", cycle), limits.body_seconds
            else:
                awaited, seconds = ("reply", cycle), None
            if awaited == self.awaited or self.awaited == ("end", None):
                return
            self.awaited = awaited
            if self.reading is not None:
                self.reading.cancel()
            self.reading = None if seconds is None else self.loop.call_later(seconds, self.refuse, 408)

        def refuse(self, status: int) -> None:
            """Close the connection, with a status if a reply has not begun."""
            if self.transport.is_closing():
                return
            waits_for_head = self.awaited[0] == "head"
            if self.received_bytes > 0 if waits_for_head else not self.cycle.response_started:
                head = f"HTTP/1.1 {status} {REASONS[status]}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                self.transport.write(head.encode())
            self.transport.close()

    return LimitedProtocol
