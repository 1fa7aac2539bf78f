"""A progress bar of downloads."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def transfer_bar(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show bytes, speed and time left on standard error if it is a terminal.

    Args:
        name: name of the file.
        done: number of bytes downloaded before.
        total: number of bytes of the file; None if the server does not report it.

    Yields:
        A function to call with the number of new bytes.
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
