"""The page's application: its files, and what it asks of the runs."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from deephash.hashers.hasher_views import get_views
from deephash.validation import InvalidInputError, check_choice
from deephash.web.demo import query as queries
from deephash.web.demo.answer import answer
from deephash.web.demo.decoding import png
from deephash.web.demo.description import (
    described_answer,
    described_curves,
    described_item,
    described_runs,
    drawn_queries,
)
from deephash.web.demo.json_answer import JSONAnswer
from deephash.web.demo.protection import protect
from deephash.web.demo.served_run import ServedRun
from deephash.web.demo.upload import max_body
from deephash.web.http_service.host_names import LOOPBACK

PAGE = Path(__file__).parent / "page"
MAX_NEIGHBOURS, MAX_DRAWN = 200, 100

Neighbours = Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS)]
Seed = Annotated[int, Query(ge=0, le=2**32 - 1)]


def build_application(runs: Sequence[ServedRun], hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """The application that serves the page for some runs.

    Args:
        runs: as `load_runs` gives them, at least one.
        hosts: names and addresses by which the page may be asked for.
    """
    application = FastAPI(
        title="deephash demo", docs_url=None, redoc_url=None, openapi_url=None, default_response_class=JSONAnswer
    )
    # One at a time: what is decoded and encoded at once is bounded, and a hasher's parts are not made for threads.
    alone = Lock()

    def run_of(number: int) -> ServedRun:
        if not 0 <= number < len(runs):
            raise HTTPException(404, f"There is no run {number}; they are 0 to {len(runs) - 1}.")
        return runs[number]

    Run = Annotated[ServedRun, Depends(run_of)]

    def answered(run: ServedRun, number: int, asked: queries.Query, searched: str, k: int) -> dict[str, Any]:
        return described_answer(run, number, asked, answer(run, asked, searched, k))

    @application.get("/api/runs")
    def list_runs() -> dict[str, Any]:
        return described_runs(runs)

    @application.get("/api/curves")
    def curves() -> list[dict[str, Any]]:
        return described_curves(runs)

    @application.get("/api/runs/{number}/queries")
    def some_queries(
        run: Run, number: int, view: str = "", count: Annotated[int, Query(ge=1, le=MAX_DRAWN)] = 24, seed: Seed = 0
    ) -> list[dict[str, Any]]:
        check_choice(view, get_views(run.hasher), "view")
        return [described_item(run.items, row, number) for row in drawn_queries(run, view, count, seed)]

    @application.get("/api/runs/{number}/items/{row}.png")
    def picture(run: Run, row: int) -> Response:
        if run.items.images is None or not 0 <= row < len(run.items):
            raise HTTPException(404, f"There is no picture of item {row}.")
        return Response(png(run.items.images[row]), media_type="image/png")

    @application.get("/api/runs/{number}/neighbours")
    def of_item(
        run: Run, number: int, row: int, asking: str = "", searched: str = "", k: Neighbours = 20
    ) -> dict[str, Any]:
        with alone:
            return answered(run, number, queries.item_query(run, row, asking), searched, k)

    @application.post("/api/runs/{number}/neighbours/image")
    async def of_image(
        run: Run, number: int, request: Request, searched: str = "", k: Neighbours = 20
    ) -> dict[str, Any]:
        contents = await request.body()

        def ask() -> dict[str, Any]:
            with alone:
                return answered(run, number, queries.image_query(run, contents), searched, k)

        return await run_in_threadpool(ask)

    @application.post("/api/runs/{number}/neighbours/text")
    async def of_text(
        run: Run, number: int, request: Request, searched: str = "", k: Neighbours = 20
    ) -> dict[str, Any]:
        contents = await request.body()

        def ask() -> dict[str, Any]:
            with alone:
                text = contents.decode(errors="replace")
                return answered(run, number, queries.text_query(run, text), searched, k)

        return await run_in_threadpool(ask)

    @application.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @application.exception_handler(InvalidInputError)
    async def refused(request: Request, error: InvalidInputError) -> JSONAnswer:
        return JSONAnswer({"detail": str(error)}, 400)

    @application.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONAnswer:
        first = error.errors()[0]
        return JSONAnswer({"detail": f"{first['loc'][-1]}: {first['msg']}."}, 400)

    application.mount("/page", StaticFiles(directory=PAGE), name="page")
    protect(application, hosts, max_body)
    return application
