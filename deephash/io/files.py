"""Files that are there whole or not at all, and JSON that says what is wrong with it."""

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
"""Half of a character in JSON; where both halves are there, they are one."""
LEFTOVER_SECONDS = 24 * 60 * 60
"""Age from which an unfinished file is taken for that of a writer that was killed."""


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` fill a file beside `path`, bring it to the disk, then put it in place in one step.

    A kill or a power failure at any moment leaves the old file or the new one. Writers of one target do not meet: each
    fills a file of its own, `NAME.XXXXXXXX.partial`, and the last to end wins. What a killed writer left of such a file
    is removed by a later write of the same target, a day on.

    Args:
        path: where the file belongs; its folder is made where it is missing.
        write: writes to the path it is given, where an empty file lies.

    Raises:
        StorageError: the disk is full, the folder is not to be written to, the name is too long, or another reason of
            the operating system's; the file that was there is unchanged.
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
            partial.chmod(mode)  # safetensors makes files that only their owner can read.
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
def writing(path: Path, kept: str = "what lay there is unchanged") -> Iterator[None]:
    """Turn the operating system's refusal to write into one `StorageError` that names the file.

    The block holds the writing alone: what it raises for a file that it reads would be told as one that it writes.

    Args:
        path: file or folder that the block writes.
        kept: what is not lost, for the message.

    Raises:
        StorageError: a full disk, a folder that is not to be written to, or another reason of the system's.
    """
    try:
        yield
    except InvalidInputError:
        raise
    except BaseException as error:
        reason = system_reason(error)
        if reason is None:
            raise
        raise StorageError(
            f"{path} cannot be written ({reason}); {kept}: free space or choose another folder."
        ) from error


def remove_leftovers(folder: Path, stem: str) -> None:
    """Remove unfinished files, or folders, of a target whose writers must be long gone."""
    for leftover in folder.glob(f"{glob.escape(stem)}.{'[0-9a-f]' * 8}.partial"):
        with suppress(OSError):  # Another writer may remove it at the same time.
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def flush(path: Path) -> None:
    """Have a file, or a folder's list of names, brought to the disk itself, where the platform can.

    Raises:
        OSError: the disk did not take it.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows opens no folders.
    opened = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(opened)
    except OSError as error:
        # Some network file systems have no such call for folders.
        if not (is_folder and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(opened)


def system_reason(error: BaseException) -> str | None:
    """Why the operating system refused to write; None where the error is no such refusal.

    Libraries written in Rust, as safetensors and polars, and in C++, as FAISS, have errors of their own for it.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Exception) and (found := re.search(r"([\w ]+) \(os error \d+\)|write error.*\((.+)\)", text)):
        return (found[1] or found[2]).strip()
    return text or type(error).__name__ if isinstance(error, OSError) else None


def sought(path: Path | str) -> str:
    """A path for a message that it is not there: of a relative one, where it was sought."""
    return str(path) if Path(path).is_absolute() else f"{path} (sought in {Path.cwd()})"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON with two-space indents, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str, then: str = "restore it or run again") -> Any:
    """Read JSON.

    Args:
        path: the file.
        what: what it holds, for the message.
        then: what to do about a damaged one.

    Raises:
        InvalidInputError: missing or damaged file.
    """
    with reading(path, what, then):
        written = path.read_text(encoding="utf-8")
        content = json.loads(written)
        if LONE_SURROGATE.search(written):
            json.dumps(content, ensure_ascii=False).encode()  # UnicodeEncodeError: text that could never be shown.
        return content


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        what: what it holds, for the message.

    Raises:
        InvalidInputError: missing or damaged file, or other JSON than an object.
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
    """Turn any error of a parser into one `InvalidInputError` that names the file.

    What damaged bytes raise has no common class: parsers have classes of their own, and fail with KeyError, TypeError,
    RecursionError or MemoryError, those in Rust with a panic that is no `Exception`. So all errors are meant; the block
    holds the reading alone.

    Args:
        path: the file.
        what: what it holds, for the message, as "a result row".
        then: what to do about it.

    Raises:
        InvalidInputError: any error of the block, except those that end the program.
    """
    try:
        check_ends(path)
        yield
    except (InvalidInputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except FileNotFoundError as error:
        where = sought(path) if isinstance(path, Path) else path
        raise InvalidInputError(f"{where} does not exist; expected {what} there.") from error
    except BaseException as error:
        raise InvalidInputError(f"{path} is not readable as {what} ({reason_of(error)}); {then}.") from error


def check_ends(path: Path | str) -> None:
    """Raise an error for a pipe or a device in place of a file: reading it would wait, or go on, for ever.

    One that is named as such, as a shell names what it pipes, is its user's own.

    Raises:
        ValueError: saying so.
    """
    if str(path).startswith(("/dev/", "/proc/")):
        return
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # Its reader says what is wrong.
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("it is a pipe or a device, and no file")


def reason_of(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters; of an error without words, its class.

    A KeyError says nothing but the key.
    """
    text = " ".join(str(error).split())[:300]
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text or type(error).__name__
