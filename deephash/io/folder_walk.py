"""List all files below a user's folder, through symbolic links, with a warning for each link that is left out."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

Stop = Callable[[Path, set[str]], bool]


def walk_files(folder: Path, hidden: bool = False, stop: Stop | None = None, strict: bool = True) -> list[Path]:
    """List the files at any depth of a folder, sorted by their paths in it; links to files and folders are followed.

    A link to a folder that contains the link would lead to an endless walk. It is left out with a warning.

    Args:
        folder: the folder; the paths begin with it.
        hidden: whether to include files and folders whose names begin with a dot.
        stop: called with a folder and the names of its files; returns whether to skip its subfolders. None skips none.
        strict: whether a dangling link is an error; otherwise it is left out with a warning.

    Raises:
        InvalidInputError: a folder cannot be listed, or a link is dangling.
    """
    found: list[Path] = []
    # Folders that are still to be listed, each with the device and inode of all folders above it.
    waiting: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while waiting:
        path, above = waiting.pop()
        here, folders, files = _list(path, hidden, strict)
        if here in above:
            log.warning("%s is a link to a folder that contains it; it is left out.", path)
            continue
        found += files
        if stop is None or not stop(path, {file.name for file in files}):
            waiting += [(each, (*above, here)) for each in folders]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _list(folder: Path, hidden: bool, strict: bool) -> tuple[tuple[int, int], list[Path], list[Path]]:
    """Return the device and inode of a folder, its folders and its files."""
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
    message = f"{link} is a link to {os.readlink(link)}, which does not exist"
    if strict:
        raise InvalidInputError(f"{message}; repair or remove the link.")
    log.warning("%s; it is left out.", message)
