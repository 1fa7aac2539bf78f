"""The web application of the demo page."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi import Query as Parameter
from fastapi.concurrency import run_in_threadpool
from fastapi.staticfiles import StaticFiles

from deephash.hashers.hasher_views import get_views
from deephash.validation import InvalidInputError, check_choice
from deephash.web.demo.answer import find_answer
from deephash.web.demo.description import (
    MAX_IMAGE_BYTES,
    describe_answer,
    describe_curves,
    describe_item,
    describe_runs,
    draw_queries,
)
from deephash.web.demo.query import Query, encode_image, encode_item, encode_text
from deephash.web.demo.served_run import ServedRun
from deephash.web.http_service.host_names import LOOPBACK
from deephash.web.page_application import JSONAnswer, answer_picture, new_application

PAGE = Path(__file__).parent / "page"
MAX_NEIGHBOURS, MAX_DRAWN = 200, 100
# A character of a text takes at most four bytes.
MAX_TEXT_BYTES = 40_000

Neighbours = Annotated[int, Parameter(ge=1, le=MAX_NEIGHBOURS)]
Seed = Annotated[int, Parameter(ge=0, le=2**32 - 1)]


def get_max_body(path: str) -> int:
    """Return the largest size in bytes of a request body."""
    return MAX_IMAGE_BYTES if path.endswith("/neighbours/image") else MAX_TEXT_BYTES


def build_application(runs: Sequence[ServedRun], hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """Build the application that serves the page for some runs.

    Args:
        runs: as returned by `load_runs`, at least one.
        hosts: host names and addresses of the page.
    """
    application = new_application("deephash demo", PAGE, hosts, get_max_body)
    # One query at a time, to limit memory, and because the parts of a hasher are not thread-safe.
    lock = Lock()

    def get_run(number: int) -> ServedRun:
        if not 0 <= number < len(runs):
            raise HTTPException(404, f"There is no run {number}; expected 0 to {len(runs) - 1}.")
        return runs[number]

    Run = Annotated[ServedRun, Depends(get_run)]

    def answer(run: ServedRun, number: int, encode: Callable[[], Query], searched: str, k: int) -> dict[str, Any]:
        with lock:
            query = encode()
            return describe_answer(run, number, query, find_answer(run, query, searched, k))

    @application.get("/api/runs")
    def list_runs() -> dict[str, Any]:
        return describe_runs(runs)

    @application.get("/api/curves")
    def list_curves() -> list[dict[str, Any]]:
        return describe_curves(runs)

    @application.get("/api/runs/{number}/queries")
    def list_queries(
        run: Run, number: int, view: str = "", count: Annotated[int, Parameter(ge=1, le=MAX_DRAWN)] = 24, seed: Seed = 0
    ) -> list[dict[str, Any]]:
        check_choice(view, get_views(run.hasher), "view")
        return [describe_item(run.items, row, number) for row in draw_queries(run, view, count, seed)]

    @application.get("/api/runs/{number}/items/{row}.png")
    def show_picture(run: Run, row: int) -> Response:
        return answer_picture(run.items, row)

    @application.get("/api/runs/{number}/neighbours")
    def search_item(
        run: Run, number: int, row: int, asking: str = "", searched: str = "", k: Neighbours = 20
    ) -> dict[str, Any]:
        return answer(run, number, lambda: encode_item(run, row, asking), searched, k)

    @application.post("/api/runs/{number}/neighbours/image")
    async def search_image(
        run: Run, number: int, request: Request, searched: str = "", k: Neighbours = 20
    ) -> dict[str, Any]:
        contents = await request.body()
        return await run_in_threadpool(answer, run, number, lambda: encode_image(run, contents), searched, k)

    @application.post("/api/runs/{number}/neighbours/text")
    async def search_text(
        run: Run, number: int, request: Request, searched: str = "", k: Neighbours = 20
    ) -> dict[str, Any]:
        text = (await request.body()).decode(errors="replace")
        return await run_in_threadpool(answer, run, number, lambda: encode_text(run, text), searched, k)

    @application.exception_handler(InvalidInputError)
    async def answer_invalid(request: Request, error: InvalidInputError) -> JSONAnswer:
        return JSONAnswer({"detail": str(error)}, 400)

    application.mount("/page", StaticFiles(directory=PAGE), name="page")
    return application
