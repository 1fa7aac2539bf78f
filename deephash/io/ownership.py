"""Whose a file is: what deephash did not write is not replaced, a source is not written to, and one process writes."""

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
"""Name of the empty file, in a folder that is written to, which the process that writes holds locked."""

# Processes that may end and remove the file while one tries to lock it.
ATTEMPTS = 100
# A file system without locks, as some network ones are: there the user sees to it that one process writes.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)

if sys.platform == "win32":
    import msvcrt

    def _take(opened: int) -> None:
        msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(opened: int) -> None:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_no_folder(*places: Path) -> None:
    """Raise an error for folders where files are to be written; a folder is never replaced.

    Raises:
        InvalidInputError: naming the first.
    """
    for place in places:
        if place.is_dir() and not place.is_symlink():
            raise InvalidInputError(f"{place} is a folder; give the name of a file.")


def check_free(*places: Path, overwrite: bool = False) -> None:
    """Raise an error for places where something lies already, unless it may be replaced.

    Args:
        places: files or folders that are to be written.
        overwrite: whether the user says that files there may be replaced; a folder in a file's place never is.

    Raises:
        InvalidInputError: naming the first that is taken.
    """
    for place in places:
        check_no_folder(place)
        if os.path.lexists(place) and not overwrite:
            raise InvalidInputError(f"{place} exists already; choose another name, or replace it with --overwrite.")


def check_not_source(source: str | Path, *places: Path) -> None:
    """Refuse to write where the source lies, however the two paths are spelt.

    A place is the source where both are one file, through links of either kind too; where it lies in the source's
    folder, of which it would become a part; or where it is a folder that holds the source.

    Args:
        source: file or folder that is read, or its address; an address in a store cannot be a place on disk.
        places: files or folders that are to be written, whether they are there or not.

    Raises:
        InvalidInputError: naming the first such place.
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
            raise InvalidInputError(f"{place} lies in the source {source}; choose a place for the output outside it.")
        if written.is_dir() and written in whole.parents:
            raise InvalidInputError(f"{place} holds the source {source}; choose another place for the output.")


@contextmanager
def only_writer(folder: Path, what: str) -> Iterator[None]:
    """Keep other processes from writing the same output; a killed process holds nothing.

    The lock is an empty file in the folder. The folder is made where it is missing, and removed where it is empty at
    the end.

    Args:
        folder: that the output is written into.
        what: the output, for the message.

    Raises:
        InvalidInputError: another process writes it, or a file of something else bears the lock's name.
        StorageError: the folder cannot be written to.
    """
    path = folder / LOCK_FILE
    opened = _locked(path, what)
    try:
        yield
    finally:
        # Removed before it is let go: whoever opened the file meanwhile sees that it is no longer there.
        try:
            with suppress(OSError):
                path.unlink()
        finally:
            os.close(opened)
        with suppress(OSError):
            folder.rmdir()


def _locked(path: Path, what: str) -> int:
    """The descriptor of a locked file that is still there under its name."""
    for _ in range(ATTEMPTS):
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # The process before has just ended, and removed the folder.
        try:
            if os.fstat(opened).st_size:
                raise InvalidInputError(f"{path} is a file of something else; remove it, or choose another output.")
            try:
                _take(opened)
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise InvalidInputError(
                        f"{what} is being written by another process; wait for its end, or choose another output."
                    ) from error
            if path.exists() and os.path.samestat(os.fstat(opened), path.stat()):
                return opened
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)
    raise InvalidInputError(f"{path} cannot be locked; choose another output.")
