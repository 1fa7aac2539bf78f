"""Atomic writing of files, and reading with one error message for any damage."""

import errno
import glob
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deephash.validation import InvalidInputError, StorageError

LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair in JSON; both halves together are one character."""
LEFTOVER_SECONDS = 24 * 60 * 60
"""Age from which an unfinished file is assumed to belong to a killed writer."""


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a file beside `path`, flush it to the disk, then move it into place in one step.

    A kill or a power failure at any moment leaves the old file or the new one. Concurrent writers of one path do not
    disturb each other: each fills its own `NAME.XXXXXXXX.partial`, and the last one wins. A write removes the partial
    files of killed writers of the same path after a day.

    Args:
        path: the file; its folder is created if missing.
        write: function that writes to the path it is given, where an empty file exists.

    Raises:
        StorageError: the disk is full, the folder is read-only, the name is too long, or the operating system refuses
            for another reason; an earlier file at `path` is unchanged.
    """
    # A name of up to 255 bytes leaves no room for an ending.
    stem = path.name.encode(errors="ignore")[:200].decode(errors="ignore")
    partial = path.with_name(f"{stem}.{secrets.token_hex(4)}.partial")
    with writing(path):
        try:
            made = [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent, stem)
            partial.touch()
            mode = partial.stat().st_mode
            write(partial)
            partial.chmod(mode)  # safetensors creates files that only their owner can read.
            flush(partial)
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    try:
        for folder in (path.parent, *(folder.parent for folder in made)):
            flush(folder)
    except OSError as error:
        raise StorageError(
            f"{path} was written, but the disk may lose it at a power failure ({error.strerror}); check the disk."
        ) from error


@contextmanager
def writing(path: Path, kept: str = "earlier files are unchanged") -> Iterator[None]:
    """Turn the operating system's refusal to write into a `StorageError` that names the file.

    The block should only write: an error while it reads another file would be reported as one of writing.

    Args:
        path: file or folder that the block writes.
        kept: statement about data that are not lost, for the message.

    Raises:
        StorageError: a full disk, a read-only folder, or another reason of the operating system.
    """
    try:
        yield
    except InvalidInputError:
        raise
    except BaseException as error:
        reason = find_system_reason(error)
        if reason is None:
            raise
        raise StorageError(f"{path} cannot be written ({reason}); {kept}: {find_remedy(path, reason)}.") from error


def remove_leftovers(folder: Path, stem: str) -> None:
    """Remove unfinished files or folders of a target that are older than `LEFTOVER_SECONDS`."""
    for leftover in folder.glob(f"{glob.escape(stem)}.{'[0-9a-f]' * 8}.partial"):
        with suppress(OSError):  # Another writer may remove it at the same time.
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk if the platform supports it.

    Raises:
        OSError: the disk did not accept it.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows cannot open folders.
    opened = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(opened)
    except OSError as error:
        # Some network file systems do not support this for folders.
        if not (is_folder and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(opened)


def find_system_reason(error: BaseException) -> str | None:
    """Return why the operating system refused to write, or None for any other error.

    Libraries in Rust and C++, such as safetensors, polars and FAISS, raise their own errors for such a refusal.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Exception) and (found := re.search(r"([\w ]+) \(os error \d+\)|write error.*\((.+)\)", text)):
        return (found[1] or found[2]).strip()
    return text or type(error).__name__ if isinstance(error, OSError) else None


def find_remedy(path: Path, reason: str) -> str:
    """Say what to do if the operating system refuses to write a path.

    Args:
        path: the file or folder.
        reason: the system's reason, as `find_system_reason` returns it.
    """
    for parent in path.parents:
        with suppress(OSError):  # A name can be too long.
            if parent.exists() and not parent.is_dir():
                return f"{parent} is a file, not a folder; choose another folder"
    remedies = {
        "choose a folder that you may write to": (errno.EACCES, errno.EPERM, errno.EROFS),
        "choose a shorter name": (errno.ENAMETOOLONG,),
        "it is a folder; choose another name": (errno.EISDIR,),
        "it is a file; choose another name": (errno.ENOTDIR, errno.EEXIST),
    }
    found = (remedy for remedy, codes in remedies.items() if reason in map(os.strerror, codes))
    return next(found, "free space or choose another folder")


def format_missing_path(path: Path | str) -> str:
    """Format a path for a message that it does not exist; add the working folder to a relative path."""
    return str(path) if Path(path).is_absolute() else f"{path} (looked up in {Path.cwd()})"


def shorten_path(path: Path) -> Path:
    """Return a path for messages: relative to the working folder if it is inside it, so that it can be typed again."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `write_whole`."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented by two spaces, with `write_whole`."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str, then: str = "restore it or run again") -> Any:
    """Read JSON.

    Args:
        path: the file.
        what: description of its contents, for the message.
        then: remedy for a damaged file, for the message.

    Raises:
        InvalidInputError: the file is missing or damaged.
    """
    with reading(path, what, then):
        written = path.read_text(encoding="utf-8")
        content = json.loads(written)
        if LONE_SURROGATE.search(written):
            json.dumps(content, ensure_ascii=False).encode()  # UnicodeEncodeError: text that cannot be printed.
        return content


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object; the arguments are those of `read_json`.

    Raises:
        InvalidInputError: the file is missing or damaged, or is not an object.
    """
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise InvalidInputError(
            f"{path} is not readable as {what} (it holds {type(content).__name__}, not an object); restore it or run "
            "again."
        )
    return content


@contextmanager
def reading(path: Path | str, what: str, then: str = "restore it or run again") -> Iterator[None]:
    """Turn any error of a parser into an `InvalidInputError` that names the file.

    Errors for damaged bytes have no common class. Parsers raise their own classes, KeyError, TypeError, RecursionError
    or MemoryError, and parsers in Rust raise a panic that is not an `Exception`. So all errors are caught, and the
    block should only read.

    Args:
        path: the file.
        what: description of its contents, for the message, such as "a result row".
        then: remedy, for the message.

    Raises:
        InvalidInputError: any error of the block, except those that end the program.
    """
    try:
        check_regular(path)
        yield
    except (InvalidInputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except FileNotFoundError as error:
        where = format_missing_path(path) if isinstance(path, Path) else path
        raise InvalidInputError(f"{where} does not exist; expected {what} there.") from error
    except BaseException as error:
        raise InvalidInputError(f"{path} is not readable as {what} ({describe_error(error)}); {then}.") from error


def check_regular(path: Path | str) -> None:
    """Raise a ValueError for a pipe or a device in place of a file, since reading it may never end.

    Paths in /dev and /proc, such as those of a shell's pipes, are accepted.
    """
    if str(path).startswith(("/dev/", "/proc/")):
        return
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # Reading it raises the error.
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("it is a pipe or a device, not a file")


def describe_error(error: BaseException) -> str:
    """Return an error's message on one line of at most 300 characters, or its class if it has no message."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text or type(error).__name__
