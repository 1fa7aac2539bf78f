"""The web application of a user study."""

from pathlib import Path
from threading import Lock
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deephash.validation import InvalidInputError, StorageError
from deephash.web.demo.demo_application import PAGE as DEMO_PAGE
from deephash.web.http_service.host_names import LOOPBACK
from deephash.web.page_application import JSONAnswer, answer_picture, new_application
from deephash.web.study.design import MAX_DEPTH
from deephash.web.study.log import AlreadyAnsweredError, StudyLog, UnknownSessionError
from deephash.web.study.presentation import Presentation
from deephash.web.study.records import MAX_SECONDS, GivenAnswer
from deephash.web.study.session_number import format_session, parse_session

PAGE = Path(__file__).parent / "page"
MAX_ANSWER_BYTES = 4_000
Body = TypeVar("Body", bound=BaseModel)
STATUSES = {UnknownSessionError: 404, AlreadyAnsweredError: 409, StorageError: 503}


class SentAnswer(BaseModel):
    """The answer to a query, as sent by the page."""

    model_config = ConfigDict(extra="forbid", strict=True)

    place: Annotated[int, Field(ge=0, le=10_000)]
    choice: str | None = None
    clicks: Annotated[list[int], Field(max_length=MAX_DEPTH)] = []
    ratings: Annotated[list[int], Field(max_length=2)]
    seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)]


class SentConsent(BaseModel):
    """The consent of a participant, as sent by the page."""

    model_config = ConfigDict(extra="forbid", strict=True)

    agreed: bool


def build_study_application(
    presentation: Presentation, log: StudyLog, consent: list[tuple[str, str]], hosts: tuple[str, ...] = LOOPBACK
) -> FastAPI:
    """Build the application of a study.

    Args:
        presentation: presentation of the two runs.
        log: log of the answers.
        consent: headings and sentences of the consent text.
        hosts: host names and addresses of the page.
    """
    application = new_application("deephash study", PAGE, hosts, lambda path: MAX_ANSWER_BYTES)
    # One query at a time: the parts of a hasher are not thread-safe.
    lock = Lock()

    def get_session(session: str) -> int:
        return parse_session(session)

    Session = Annotated[int, Depends(get_session)]
    OwnPage = Depends(check_origin)

    @application.get("/api/study")
    def show_study() -> dict[str, Any]:
        return {
            "consent": [{"heading": heading, "sentence": sentence} for heading, sentence in consent],
            "queries": min(presentation.design.queries, len(presentation.pool)),
        }

    @application.post("/api/sessions", dependencies=[OwnPage])
    async def begin(request: Request) -> dict[str, str]:
        if not (await read_body(request, SentConsent)).agreed:
            raise HTTPException(400, "Please agree before you take part.")
        return {"session": format_session(await run_in_threadpool(log.add_session))}

    @application.post("/api/sessions/{session}/next", dependencies=[OwnPage])
    def show_next(session: Session) -> dict[str, Any]:
        trials, place = presentation.trials(session), log.count_answers(session)
        if place >= len(trials):
            return {"done": True, "of": len(trials)}
        with lock:
            trial = presentation.trial(place, trials[place])
        return {"done": False, "of": len(trials), **presentation.describe(log.show(session, trial))}

    @application.post("/api/sessions/{session}/answers", dependencies=[OwnPage])
    async def keep(session: Session, request: Request) -> dict[str, bool]:
        answer = await read_body(request, SentAnswer)
        given = GivenAnswer(answer.choice, tuple(answer.clicks), tuple(answer.ratings), answer.seconds)
        await run_in_threadpool(log.answer, session, answer.place, given)
        return {"kept": True}

    @application.post("/api/sessions/{session}/delete", dependencies=[OwnPage])
    def delete(session: Session) -> dict[str, int]:
        return {"deleted": log.delete(session)}

    @application.get("/api/items/{row}.png")
    def show_picture(row: int) -> Response:
        return answer_picture(presentation.items, row)

    @application.exception_handler(InvalidInputError)
    async def answer_invalid(request: Request, error: InvalidInputError) -> JSONAnswer:
        status = STATUSES.get(type(error), 400)
        # Participants must not see paths of this machine.
        detail = (
            "The answer cannot be kept; please tell the person who runs the study." if status == 503 else str(error)
        )
        return JSONAnswer({"detail": detail}, status)

    # The study shares styles and scripts with the demo.
    application.mount("/page", StaticFiles(directory=DEMO_PAGE), name="page")
    application.mount("/study", StaticFiles(directory=PAGE), name="study")
    return application


def check_origin(request: Request) -> None:
    """Raise an error if a request that changes the log has no Origin header.

    Browsers add this header to requests of a page's scripts. The guard of the application rejects other origins.

    Raises:
        HTTPException: 403, the header is missing.
    """
    if "origin" not in request.headers:
        raise HTTPException(403, "Only the page of this study may send answers.")


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Parse the JSON body of a request.

    Raises:
        HTTPException: 400, the body is not JSON of this kind.
    """
    contents = await request.body()
    try:
        return kind.model_validate_json(contents)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "answer"
        raise HTTPException(400, f"{where}: {first['msg']}.") from error
