"""A cache of computed tensors, with one checksummed safetensors file per key."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from deephash.data.descriptors.base import Descriptor
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.io.files import write_whole
from deephash.validation import StorageError


def read_or_compute(
    folder: str | Path, name: str, key: str, compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return tensors from the cache, or compute and store them.

    An invalid file is computed again, with a warning. If the folder cannot be written, a warning is issued, and
    the next run computes the tensors again.

    Args:
        folder: folder of the cache, created if it does not exist; `~` is the home folder.
        name: prefix of the file's name.
        key: hexadecimal digest of all inputs.
        compute: computes the tensors.
    """
    path = Path(folder).expanduser() / f"{name}-{key[:32]}.safetensors"
    if path.exists():
        try:
            return _read(path, key)
        except Exception as error:  # safetensors raises its own type for some faults and OSError for others
            warnings.warn(f"{path} cannot be used ({error}); computing it again.", stacklevel=2)
    tensors = compute()
    try:
        _write(path, key, tensors)
    except StorageError as error:
        warnings.warn(f"{error} The next run will compute it again.", stacklevel=2)
    return tensors


def read_or_describe(images: np.ndarray, descriptor: Descriptor, folder: str | Path) -> Tensor:
    """Return features of images, from the cache if the descriptor is costly and they are in it.

    The key covers pixels, parameters and code version.

    Args:
        images: uint8 (n, h, w) or (n, h, w, 3).
        descriptor: computes the features.
        folder: folder of the cache.

    Returns:
        float32 (n, d).
    """
    if not descriptor.costly:
        return descriptor.describe(images)
    key = build_description_key(descriptor, {"shape": images.shape, "dtype": str(images.dtype)})
    key.update(np.ascontiguousarray(images).data)
    name = type(descriptor).__name__.lower()
    return read_or_compute(folder, name, key.hexdigest(), lambda: {"features": descriptor.describe(images)})["features"]


def build_description_key(descriptor: Descriptor | TextDescriptor, of: dict[str, object]) -> "hashlib._Hash":
    """Return a hash object of a descriptor's version and parameters and of other settings, all as JSON."""
    description = {"version": descriptor.version, "parameters": descriptor.parameters(), "of": of}
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode())


def _read(path: Path, key: str) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.get("key") != key:
        raise ValueError("it was computed from other input")
    if metadata.get("sha256") != _compute_digest(tensors):
        raise ValueError("its contents do not match their checksum")
    return tensors


def _write(path: Path, key: str, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    write_whole(path, lambda partial: save_file(tensors, partial, {"key": key, "sha256": _compute_digest(tensors)}))


def _compute_digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
