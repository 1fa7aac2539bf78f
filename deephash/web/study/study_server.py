"""Serving a study."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI

from deephash.web.demo.demo_server import serve_application
from deephash.web.demo.served_run import load_runs
from deephash.web.study.consent import consent_text
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
        folders: of the two runs, complete, of the same data and split.
        path: of the log, made where there is none.
        design: of the study.
        contact: who runs it, for the consent text.
        host: address to listen on.
        port: to listen on; 0 takes one that is free.
        names: further host names by which the page may be asked for.
        device: where features are encoded.
        ready: is told the page's address as soon as it is there.

    Raises:
        InvalidInputError: an address or a port that cannot be listened on, runs that cannot be compared, or a file
            that is no log of this study.
    """
    opened: list[StudyLog] = []

    def build(hosts: Sequence[str]) -> FastAPI:
        presentation = Presentation(load_runs(folders, device), design)
        consent = consent_text(contact)
        text = "\n".join(f"{heading}: {sentence}" for heading, sentence in consent)
        opened.append(StudyLog.create(path, presentation.study(text)))
        return build_study_application(presentation, opened[0], consent, tuple(hosts))

    try:
        serve_application(build, host, port, names, ready)
    finally:
        for log in opened:
            log.close()
