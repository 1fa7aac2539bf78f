"""The server of a user study."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI

from deephash.web.demo.served_run import load_runs
from deephash.web.page_application import serve_application
from deephash.web.study.consent import get_consent
from deephash.web.study.design import StudyDesign
from deephash.web.study.log import StudyLog
from deephash.web.study.presentation import Presentation
from deephash.web.study.study_application import build_study_application


def serve_study(
    folders: Sequence[Path],
    path: Path,
    design: StudyDesign,
    contact: str,
    host: str,
    port: int,
    names: Sequence[str] = (),
    device: str = "cpu",
    ready: Callable[[str], None] = print,
) -> None:
    """Serve a study until interrupted.

    Args:
        folders: folders of two complete runs on the same data and split.
        path: path of the log, created if missing.
        design: design of the study.
        contact: contact for the consent text.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        names: additional host names of the page.
        device: device on which features are encoded.
        ready: called with the address once the server is ready.

    Raises:
        InvalidInputError: the server cannot listen on the address and port, the runs cannot be compared, or the file
            is not a log of this study.
    """
    logs: list[StudyLog] = []

    def build(hosts: Sequence[str]) -> FastAPI:
        presentation = Presentation(load_runs(folders, device), design)
        consent = get_consent(contact)
        text = "\n".join(f"{heading}: {sentence}" for heading, sentence in consent)
        logs.append(StudyLog.create(path, presentation.study(text)))
        return build_study_application(presentation, logs[0], consent, tuple(hosts))

    try:
        serve_application(build, host, port, names, ready)
    finally:
        for log in logs:
            log.close()
