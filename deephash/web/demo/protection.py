"""What keeps other web sites, and names that lead here by a trick, away from the page."""

from collections.abc import Callable, Sequence

from fastapi import FastAPI

from deephash.web.http_service.guard import RequestGuard

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


def protect(application: FastAPI, hosts: Sequence[str], max_body: Callable[[str], int]) -> None:
    """Raise an error for requests by other host names or from other sites, and send the headers that bind the page.

    Args:
        application: to which this is added.
        hosts: names and addresses by which the page is asked for.
        max_body: path → bytes that the body of a request may have.
    """
    application.add_middleware(RequestGuard, hosts=hosts, max_body=max_body, headers=HEADERS)
