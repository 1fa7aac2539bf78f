"""One progress bar for everything that can take more than two seconds."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

# Work shorter than this needs no bar.
PATIENCE_SECONDS = 2.0


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate, showing a bar on standard error once two seconds have passed; nothing where it is no terminal.

    Args:
        iterable: what to go through.
        description: what is done, as "GIST features".
        total: number of steps; None asks `len(iterable)`, where it has one.

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
        if time.monotonic() - start > PATIENCE_SECONDS:
            break
    else:
        return
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
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=done)
        for item in iterator:
            yield item
            progress.advance(task)
