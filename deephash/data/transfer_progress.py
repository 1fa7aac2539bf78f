"""A progress bar of downloads."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def transfer_bar(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show bytes, speed and time left on standard error if it is a terminal.

    Args:
        name: what comes.
        done: bytes that are here already.
        total: bytes of the whole; None where the server does not say.

    Yields:
        A function to be told how many further bytes came.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total, completed=done)
        yield lambda count: progress.advance(task, count)
