"""What keeps other web sites, and names that lead here by a trick, away from the page."""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Scripts, styles and pictures come from here alone; blob: is a picture that was chosen, shown before it is sent.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def protect(application: FastAPI, hosts: Sequence[str]) -> None:
    """Refuse requests by other host names or from other sites, and send the headers that bind the page.

    A name of somebody else's that resolves to this machine is no name of this page: without the check a web site could
    read it by such a name (DNS rebinding).

    Args:
        application: to which this is added.
        hosts: names and addresses by which the page is asked for.
    """

    @application.middleware("http")
    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            response: Response = JSONResponse({"detail": "Requests come from this page alone."}, 403)
        else:
            response = await answer(request)
        response.headers.update(HEADERS)
        return response

    application.add_middleware(
        TrustedHostMiddleware, allowed_hosts=[f"[{host}]" if ":" in host else host for host in hosts]
    )
