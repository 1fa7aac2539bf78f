"""Protection of files: other files and sources are never replaced, and only one process writes an output."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deephash.io.files import writing
from deephash.validation import InvalidInputError

LOCK_FILE = ".deephash-lock"
"""Name of the empty file in an output folder that the writing process locks."""

# Attempts to lock the file; one fails if another process ends at that moment and removes the file.
ATTEMPTS = 100
# Errors of file systems without locks, such as some network ones. There, a second process is not detected.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)

if sys.platform == "win32":
    import msvcrt

    def _try_lock(opened: int) -> None:
        msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(opened: int) -> None:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_no_folder(*places: Path) -> None:
    """Raise an error if an output file is an existing folder, which is never replaced."""
    for place in places:
        if place.is_dir() and not place.is_symlink():
            raise InvalidInputError(f"{place} is a folder; give the name of a file.")


def check_free(*places: Path, overwrite: bool = False) -> None:
    """Raise an error if an output exists, unless `overwrite` permits replacing it; folders are never replaced."""
    for place in places:
        check_no_folder(place)
        if os.path.lexists(place) and not overwrite:
            raise InvalidInputError(f"{place} exists already; choose another name, or replace it with --overwrite.")


def check_not_source(source: str | Path, *places: Path) -> None:
    """Raise an error if an output is the source, is in its folder, or is a folder that contains it.

    Symbolic and hard links are followed.

    Args:
        source: file or folder that is read, or its address; an address in an object store is never an output.
        places: output files or folders, existing or not.
    """
    if "://" in str(source):
        address = urlsplit(str(source))
        if address.scheme != "file":
            return
        source = unquote(address.path)
    read = Path(source).expanduser()
    if not read.exists():
        return
    whole = read.resolve()
    for place in places:
        written = place.expanduser().resolve()
        if written == whole or (written.exists() and written.samefile(whole)):
            raise InvalidInputError(f"{place} is the source {source} itself; choose another place for the output.")
        if whole.is_dir() and whole in written.parents:
            raise InvalidInputError(f"{place} is in the source {source}; choose a place for the output outside it.")
        if written.is_dir() and written in whole.parents:
            raise InvalidInputError(f"{place} contains the source {source}; choose another place for the output.")


@contextmanager
def lock_for_writing(folder: Path, what: str) -> Iterator[None]:
    """Prevent other processes from writing the same output; a killed process releases its lock.

    The lock is an empty file in the folder. The folder is created if missing, and removed at the end if empty.

    Args:
        folder: folder of the output.
        what: the output, for the message.

    Raises:
        InvalidInputError: another process writes it, or another file has the lock's name.
        StorageError: the folder cannot be written to.
    """
    path = folder / LOCK_FILE
    opened = _lock(path, what)
    try:
        yield
    finally:
        # Remove the file before unlocking it: a process that opened it meanwhile then sees that it is gone.
        try:
            with suppress(OSError):
                path.unlink()
        finally:
            os.close(opened)
        with suppress(OSError):
            folder.rmdir()


def _lock(path: Path, what: str) -> int:
    """Lock the file, check that it has not been removed meanwhile, and return its descriptor."""
    for _ in range(ATTEMPTS):
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # The previous process has just ended and removed the folder.
        try:
            if os.fstat(opened).st_size:
                raise InvalidInputError(f"{path} is not a lock of deephash; remove it, or choose another output.")
            try:
                _try_lock(opened)
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise InvalidInputError(
                        f"{what} is being written by another process; wait until it ends, or choose another output."
                    ) from error
            if path.exists() and os.path.samestat(os.fstat(opened), path.stat()):
                return opened
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)
    raise InvalidInputError(f"{path} cannot be locked; choose another output.")
