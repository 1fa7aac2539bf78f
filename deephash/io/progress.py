"""Progress bars for work of more than two seconds."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

# Shorter work shows no bar.
PATIENCE_SECONDS = 2.0
# Held by the visible bar: a step of it that counts its own steps shows none, since a terminal has room for one.
_bar = threading.Lock()


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate, and show a bar after two seconds if standard error is a terminal and no other bar is visible.

    Args:
        iterable: any iterable.
        description: label of the bar, such as "GIST features".
        total: number of steps; None uses `len(iterable)` if available.

    Yields:
        The items of `iterable`.
    """
    if not sys.stderr.isatty():
        yield from iterable
        return
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    start, done, iterator = time.monotonic(), 0, iter(iterable)
    for item in iterator:
        yield item
        done += 1
        if time.monotonic() - start > PATIENCE_SECONDS and _bar.acquire(blocking=False):
            break
    else:
        return
    Waiting.end_current()
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(description, total=total, completed=done)
            for item in iterator:
                yield item
                progress.advance(task)
    finally:
        _bar.release()


class Waiting:
    """A line with a clock for work whose steps cannot be counted; it appears after two seconds, and a bar replaces it.

    Args:
        description: label of the line, such as "Fitting".
    """

    _current: "Waiting | None" = None

    def __init__(self, description: str) -> None:
        self.description = description
        self.progress: Progress | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._timer = threading.Timer(PATIENCE_SECONDS, self._show)
        self._timer.daemon = True

    def start(self) -> None:
        """Start the two seconds of waiting."""
        Waiting._current = self
        self._timer.start()

    def end(self) -> None:
        """Remove the line; it does not appear again."""
        self._timer.cancel()
        with self._lock:
            self._ended = True
            if self.progress is not None:
                self.progress.stop()
                self.progress = None
        if Waiting._current is self:
            Waiting._current = None

    @classmethod
    def end_current(cls) -> None:
        """Remove the visible line, if there is one, before a bar appears."""
        if cls._current is not None:
            cls._current.end()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with self._lock:
            if self._ended:
                return
            self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self.progress.add_task(self.description, total=None)
            self.progress.start()


@contextmanager
def show_waiting(description: str) -> Iterator[None]:
    """Show how long the block has been running, if standard error is a terminal.

    Args:
        description: label of the line, such as "Fitting".
    """
    if not sys.stderr.isatty():
        yield
        return
    line = Waiting(description)
    line.start()
    try:
        yield
    finally:
        line.end()
