"""The study's application: its page, and what the page asks and tells."""

from pathlib import Path
from threading import Lock
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deephash.validation import InvalidInputError, StorageError
from deephash.web.demo.decoding import png
from deephash.web.demo.demo_application import PAGE as DEMO_PAGE
from deephash.web.demo.json_answer import JSONAnswer
from deephash.web.demo.protection import protect
from deephash.web.http_service.host_names import LOOPBACK
from deephash.web.study.design import MAX_DEPTH
from deephash.web.study.log import AlreadyAnsweredError, StudyLog, UnknownSessionError
from deephash.web.study.presentation import Presentation
from deephash.web.study.records import MAX_SECONDS, GivenAnswer
from deephash.web.study.session_number import session_number, session_text

PAGE = Path(__file__).parent / "page"
MAX_ANSWER_BYTES = 4_000
Body = TypeVar("Body", bound=BaseModel)
STATUSES = {UnknownSessionError: 404, AlreadyAnsweredError: 409, StorageError: 503}


class SentAnswer(BaseModel):
    """What the page sends of one query."""

    model_config = ConfigDict(extra="forbid", strict=True)

    place: Annotated[int, Field(ge=0, le=10_000)]
    choice: str | None = None
    clicks: Annotated[list[int], Field(max_length=MAX_DEPTH)] = []
    ratings: Annotated[list[int], Field(max_length=2)]
    seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)]


class SentConsent(BaseModel):
    """What the page sends to begin."""

    model_config = ConfigDict(extra="forbid", strict=True)

    agreed: bool


def build_study_application(
    presentation: Presentation, log: StudyLog, consent: list[tuple[str, str]], hosts: tuple[str, ...] = LOOPBACK
) -> FastAPI:
    """The application of a study.

    Args:
        presentation: of the two runs.
        log: where answers are kept.
        consent: headings and sentences that participants agree to.
        hosts: names and addresses by which the page may be asked for.
    """
    application = FastAPI(
        title="deephash study", docs_url=None, redoc_url=None, openapi_url=None, default_response_class=JSONAnswer
    )
    # One at a time: a hasher's parts are not made for threads.
    alone = Lock()

    def session_of(session: str) -> int:
        return session_number(session)

    Session = Annotated[int, Depends(session_of)]
    Own = Depends(check_origin)

    @application.get("/api/study")
    def study() -> dict[str, Any]:
        return {
            "consent": [{"heading": heading, "sentence": sentence} for heading, sentence in consent],
            "queries": min(presentation.design.queries, len(presentation.pool)),
        }

    @application.post("/api/sessions", dependencies=[Own])
    async def begin(request: Request) -> dict[str, str]:
        if not (await sent(request, SentConsent)).agreed:
            raise HTTPException(400, "Nobody takes part without having agreed.")
        return {"session": session_text(await run_in_threadpool(log.add_session))}

    @application.post("/api/sessions/{session}/next", dependencies=[Own])
    def following(session: Session) -> dict[str, Any]:
        trials, place = presentation.trials(session), log.answered(session)
        if place >= len(trials):
            return {"done": True, "of": len(trials)}
        with alone:
            trial = presentation.trial(place, trials[place])
        return {"done": False, "of": len(trials), **presentation.described(log.show(session, trial))}

    @application.post("/api/sessions/{session}/answers", dependencies=[Own])
    async def keep(session: Session, request: Request) -> dict[str, bool]:
        answer = await sent(request, SentAnswer)
        given = GivenAnswer(answer.choice, tuple(answer.clicks), tuple(answer.ratings), answer.seconds)
        await run_in_threadpool(log.answer, session, answer.place, given)
        return {"kept": True}

    @application.post("/api/sessions/{session}/delete", dependencies=[Own])
    def delete(session: Session) -> dict[str, int]:
        return {"deleted": log.delete(session)}

    @application.get("/api/items/{row}.png")
    def picture(row: int) -> Response:
        items = presentation.items
        if items.images is None or not 0 <= row < len(items):
            raise HTTPException(404, f"There is no picture of item {row}.")
        return Response(png(items.images[row]), media_type="image/png")

    @application.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @application.exception_handler(InvalidInputError)
    async def refused(request: Request, error: InvalidInputError) -> JSONAnswer:
        status = STATUSES.get(type(error), 400)
        # A path of this machine's is none of the participants' business.
        told = "The answer cannot be kept; please tell whoever runs the study." if status == 503 else str(error)
        return JSONAnswer({"detail": told}, status)

    @application.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONAnswer:
        first = error.errors()[0]
        return JSONAnswer({"detail": f"{first['loc'][-1]}: {first['msg']}."}, 400)

    # Styles and elements are those of deephash demo.
    application.mount("/page", StaticFiles(directory=DEMO_PAGE), name="page")
    application.mount("/study", StaticFiles(directory=PAGE), name="study")
    protect(application, hosts, lambda path: MAX_ANSWER_BYTES)
    return application


def check_origin(request: Request) -> None:
    """Refuse what changes the log unless this page's own script sent it, which its browser attests by the origin.

    Another origin is refused for every request.

    Raises:
        HTTPException: 403, no origin.
    """
    if "origin" not in request.headers:
        raise HTTPException(403, "Answers come from this study's page alone.")


async def sent(request: Request, kind: type[Body]) -> Body:
    """A request's JSON.

    Raises:
        HTTPException: 400, no such JSON.
    """
    contents = await request.body()
    try:
        return kind.model_validate_json(contents)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "answer"
        raise HTTPException(400, f"{where}: {first['msg']}.") from error
