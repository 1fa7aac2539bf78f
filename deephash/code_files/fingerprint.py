"""Fingerprints that distinguish files without reading them completely."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# Bytes to read at each end of a file.
END_BYTES = 1 << 20


def fingerprint_file(path: Path) -> dict[str, Any]:
    """Return the path, size and modification time of a file, and a SHA-256 of its first and last mebibyte."""
    state = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(END_BYTES))
        file.seek(max(0, state.st_size - END_BYTES))
        digest.update(file.read(END_BYTES))
    return {
        "path": str(path.resolve()),
        "bytes": state.st_size,
        "changed": state.st_mtime_ns,
        "ends": digest.hexdigest(),
    }


def fingerprint_folder(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Return the number of files, and a SHA-256 of their paths, sizes and modification times."""
    stats = ((file.relative_to(folder).as_posix(), file.stat()) for file in files)
    return fingerprint_listing(str(folder.resolve()), (f"{path}\0{s.st_size}\0{s.st_mtime_ns}" for path, s in stats))


def fingerprint_listing(path: str, states: Iterable[str]) -> dict[str, Any]:
    """Return the number of files, and a SHA-256 of their states, one line for each file."""
    digest, count = hashlib.sha256(), 0
    for state in states:
        digest.update(f"{state}\n".encode())
        count += 1
    return {"path": path, "files": count, "states": digest.hexdigest()}
