"""Files that are there whole or not at all, and JSON that says what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deephash.validation import InvalidInputError


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` fill a file beside `path`, then put it in place in one step.

    Args:
        path: where the file belongs; its folder is made where it is missing.
        write: writes to the path it is given, `path` with `.partial` added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON with two-space indents, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read JSON.

    Args:
        path: the file.
        what: what it holds, for the message.

    Raises:
        InvalidInputError: missing or damaged file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path} does not exist; expected {what} there.") from error
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} is not readable as {what} ({error}); restore it or run again.") from error
