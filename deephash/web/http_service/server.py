"""A server of uvicorn for an application, with bounds."""

from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from deephash.web.http_service.protocol import ConnectionLimits, bounded_protocol


def http_server(application: Any, limits: ConnectionLimits | None = None) -> uvicorn.Server:
    """A server, not started.

    Args:
        application: as ASGI has it, behind a `RequestGuard`.
        limits: of each connection; None takes the defaults.
    """
    limits = limits or ConnectionLimits()
    settings = uvicorn.Config(
        application,
        http=bounded_protocol(AutoHTTPProtocol, limits),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=limits.head_bytes,
    )
    return uvicorn.Server(settings)
