"""Files of tensors with a key and a checksum."""

import hashlib
from pathlib import Path

from torch import Tensor

from deephash.io.files import write_whole


def read_tensors(path: Path, key: str) -> dict[str, Tensor]:
    """Read the tensors that `write_tensors` wrote under a key.

    Raises:
        ValueError: the file has another key, or does not match its checksum. Other errors for damaged files are those
            of safetensors.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.get("key") != key:
        raise ValueError("it was computed from other input")
    if metadata.get("sha256") != compute_digest(tensors):
        raise ValueError("its contents do not match their checksum")
    return tensors


def write_tensors(path: Path, key: str, tensors: dict[str, Tensor]) -> None:
    """Write tensors with their key and a checksum, with `write_whole`.

    Raises:
        StorageError: the file cannot be written.
    """
    from safetensors.torch import save_file

    write_whole(path, lambda partial: save_file(tensors, partial, {"key": key, "sha256": compute_digest(tensors)}))


def compute_digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256, in hex, of tensors in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
