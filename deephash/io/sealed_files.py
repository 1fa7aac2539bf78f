"""Files that contain a digest of their contents, so that damage is noticed before use.

The digest is inside the file, so that both are replaced in one step. Files of earlier versions have no digest and are
read without this check.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from deephash.io.files import read_json_object, write_json, write_text
from deephash.validation import InvalidInputError

SEAL = "sha256"
SEAL_LINE = "# sha256 of the lines above, to be deleted where you change them: "


def write_sealed_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with its digest as its last entry, with `write_whole`."""
    write_json(path, content | {SEAL: digest_content(content)})


def read_sealed_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object, without its digest.

    Args:
        path: the file.
        what: description of its contents, for the message.

    Raises:
        InvalidInputError: a missing or damaged file, or contents that do not match their digest.
    """
    content = read_json_object(path, what)
    seal = content.pop(SEAL, None)
    if seal is not None and seal != digest_content(content):
        raise InvalidInputError(
            f"{path} does not match its digest; it was changed or damaged: restore it or run again."
        )
    return content


def digest_content(content: dict[str, Any]) -> str:
    """Return the SHA-256, in hex, of JSON values, independent of the order of names and indents."""
    read_back = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256, in hex, of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sealed_text(path: Path, text: str) -> None:
    """Write text whose comments begin with #, and its digest as the last line, with `write_whole`."""
    write_text(path, f"{text}{SEAL_LINE}{hashlib.sha256(text.encode()).hexdigest()}\n")


def check_sealed_text(text: str) -> None:
    """Raise a ValueError if text does not match the digest in its last line, if any."""
    body, found, seal = text.rpartition(SEAL_LINE)
    if found and seal.strip() != hashlib.sha256(body.encode()).hexdigest():
        raise ValueError("it does not match its digest; if you changed it on purpose, delete its last line")
