"""A connection of uvicorn's with bounds: how long it waits for a request, and for a reply to be taken."""

import asyncio
from dataclasses import dataclass
from typing import Any, final

REASONS = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


@final
@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of a connection.

    Args:
        head_seconds: from the connection, or the reply before, to the end of a request's headers.
        body_seconds: from there to the end of its body.
        reply_seconds: that a client may leave a reply untaken.
        head_bytes: of a request's first line and headers.
        connections: at once, beyond which more are turned away with status 503.
    """

    head_seconds: float = 10.0
    body_seconds: float = 60.0
    reply_seconds: float = 60.0
    head_bytes: int = 65_536
    connections: int = 512


def bounded_protocol(base: Any, limits: ConnectionLimits) -> Any:
    """A protocol of uvicorn's with bounds.

    Uvicorn itself waits for as long as a client takes, so that a few slow ones keep all others out.

    Args:
        base: uvicorn's protocol, of h11 or httptools.
        limits: the bounds.
    """

    class BoundedProtocol(base):  # type: ignore[misc]
        """Watches what a connection waits for."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            """A client has connected."""
            self.received_bytes = 0
            self.awaited: tuple[str, Any] = ("", None)
            self.reading: asyncio.TimerHandle | None = None
            self.writing: asyncio.TimerHandle | None = None
            super().connection_made(transport)
            self.watch()

        def data_received(self, data: bytes) -> None:
            """A part of a request has come."""
            self.received_bytes += len(data)
            super().data_received(data)
            self.watch()
            if self.awaited[0] == "head" and self.received_bytes > limits.head_bytes:
                self.refuse(431)

        def on_response_complete(self) -> None:
            """A reply has been written."""
            self.received_bytes = 0
            super().on_response_complete()
            self.watch()

        def connection_lost(self, error: Exception | None) -> None:
            """The connection has ended."""
            for timer in (self.reading, self.writing):
                if timer is not None:
                    timer.cancel()
            self.awaited = ("end", None)
            super().connection_lost(error)

        def pause_writing(self) -> None:
            """The client does not take what was written."""
            self.writing = self.loop.call_later(limits.reply_seconds, self.transport.abort)
            super().pause_writing()

        def resume_writing(self) -> None:
            """The client has taken it."""
            if self.writing is not None:
                self.writing.cancel()
            super().resume_writing()

        def watch(self) -> None:
            """Start the clock of what is waited for now, unless it runs."""
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
            """End the connection, with a status where that can still be told."""
            if self.transport.is_closing():
                return
            waits_for_head = self.awaited[0] == "head"
            if self.received_bytes > 0 if waits_for_head else not self.cycle.response_started:
                head = f"HTTP/1.1 {status} {REASONS[status]}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                self.transport.write(head.encode())
            self.transport.close()

    return BoundedProtocol
