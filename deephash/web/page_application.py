"""Parts that the applications of the demo and the user study share."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse

from deephash.data.items import Items
from deephash.report.item_display import encode_thumbnail
from deephash.report.tables import replace_nonfinite
from deephash.web.http_service.guard import RequestGuard
from deephash.web.http_service.host_names import list_host_names
from deephash.web.http_service.server import build_server
from deephash.web.listening import open_listener

# Characters of the text of an item on a page.
TEXT_CHARACTERS = 400
# Largest side in pixels of an item's picture.
MAX_PICTURE = 256
# Pages load scripts, styles and pictures only from this server. blob: shows a chosen picture before it is sent.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class JSONAnswer(JSONResponse):
    """JSON reply in which NaN and infinity become null, and lone surrogates of file names are escaped."""

    def render(self, content: Any) -> bytes:
        """Encode a value."""
        return json.dumps(replace_nonfinite(content), allow_nan=False, separators=(",", ":")).encode()


def new_application(title: str, page: Path, hosts: Sequence[str], max_body: Callable[[str], int]) -> FastAPI:
    """Return an application that serves a page to its own hosts, and answers malformed requests with one sentence.

    Args:
        title: name of the application.
        page: folder with index.html.
        hosts: host names and addresses of the page.
        max_body: path → largest size of a request body in bytes.
    """
    application = FastAPI(
        title=title, docs_url=None, redoc_url=None, openapi_url=None, default_response_class=JSONAnswer
    )
    application.add_middleware(RequestGuard, hosts=hosts, max_body=max_body, headers=HEADERS)

    @application.get("/")
    def show_page() -> FileResponse:
        return FileResponse(page / "index.html")

    @application.exception_handler(RequestValidationError)
    async def answer_malformed(request: Request, error: RequestValidationError) -> JSONAnswer:
        first = error.errors()[0]
        return JSONAnswer({"detail": f"{first['loc'][-1]}: {first['msg']}."}, 400)

    return application


def answer_picture(items: Items, row: int) -> Response:
    """Return the picture of an item as PNG.

    Raises:
        HTTPException: 404, the item has no picture.
    """
    if items.images is None or not 0 <= row < len(items):
        raise HTTPException(404, f"There is no picture of item {row}.")
    return Response(encode_thumbnail(items.images[row], MAX_PICTURE), media_type="image/png")


def serve_application(
    build: Callable[[Sequence[str]], FastAPI],
    host: str,
    port: int,
    names: Sequence[str],
    ready: Callable[[str], None],
) -> None:
    """Serve an application until interrupted.

    Args:
        build: function that builds the application from its host names and addresses.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        names: additional host names of the application.
        ready: called with the address once the server is ready.

    Raises:
        InvalidInputError: the server cannot listen on the address and port.
    """
    # Listening comes before the slow reading of data, so that a taken port is reported at once.
    with open_listener(host, port) as listener:
        application = build(list_host_names(host, names))
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # the usual end of the server
            build_server(application).run(sockets=[listener])
