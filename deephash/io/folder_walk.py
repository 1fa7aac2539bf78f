"""All files below a user's folder, through symbolic links, with nothing left out in silence."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

Stop = Callable[[Path, set[str]], bool]


def walk_files(folder: Path, hidden: bool = False, stop: Stop | None = None, strict: bool = True) -> list[Path]:
    """Files at any depth of a folder, in the order of their paths from there; links to files and folders are followed.

    A link to a folder that holds it would never end: it is left out, with a warning.

    Args:
        folder: where to look; the paths begin with it.
        hidden: whether files and folders whose names begin with a dot are taken too.
        stop: told a folder and the names of the files in it, says whether the folders in it are left out; None takes
            all of them.
        strict: whether a link to what does not exist is refused; it is left out with a warning otherwise.

    Raises:
        InvalidInputError: a folder that cannot be listed, or a link to what does not exist.
    """
    found: list[Path] = []
    # Folders that are still to be listed, each with the device and number of those that lead to it.
    waiting: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while waiting:
        path, above = waiting.pop()
        here, folders, files = _listed(path, hidden, strict)
        if here in above:
            log.warning("%s is a link to a folder that holds it; it is left out.", path)
            continue
        found += files
        if stop is None or not stop(path, {file.name for file in files}):
            waiting += [(each, (*above, here)) for each in folders]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _listed(folder: Path, hidden: bool, strict: bool) -> tuple[tuple[int, int], list[Path], list[Path]]:
    """Device and number of a folder, the folders in it, and the files."""
    folders, files = [], []
    try:
        state = folder.stat()
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                if entry.name.startswith(".") and not hidden:
                    continue
                if entry.is_dir():
                    folders.append(path)
                elif entry.is_file():
                    files.append(path)
                elif entry.is_symlink() and not path.exists():
                    _report_dangling(path, strict)
    except OSError as error:
        raise InvalidInputError(
            f"{error.filename or folder} cannot be listed ({error.strerror}); make it readable or remove it."
        ) from error
    return (state.st_dev, state.st_ino), folders, files


def _report_dangling(link: Path, strict: bool) -> None:
    says = f"{link} is a link to {os.readlink(link)}, which does not exist"
    if strict:
        raise InvalidInputError(f"{says}; mend or remove the link.")
    log.warning("%s; it is left out.", says)
