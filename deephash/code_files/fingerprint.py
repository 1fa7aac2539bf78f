"""What tells one file from another without reading all of it."""

import hashlib
from pathlib import Path
from typing import Any

# Read at each end of a file.
END_BYTES = 1 << 20


def file_fingerprint(path: Path) -> dict[str, Any]:
    """Name, size, time of change, and a SHA-256 of the file's first and last mebibyte."""
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


def listing_fingerprint(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Number of files, and a SHA-256 of each one's path, size and time of change."""
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return {"path": str(folder.resolve()), "files": len(files), "states": digest.hexdigest()}
