"""A uvicorn server with limits on connections."""

from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from deephash.web.http_service.protocol import ConnectionLimits, limit_protocol


def build_server(application: Any, limits: ConnectionLimits | None = None) -> uvicorn.Server:
    """Return a server that is not started.

    Args:
        application: ASGI application behind a `RequestGuard`.
        limits: limits of each connection; None uses the defaults.
    """
    limits = limits or ConnectionLimits()
    settings = uvicorn.Config(
        application,
        http=limit_protocol(AutoHTTPProtocol, limits),
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
