"""A cache of computed tensors, with one checksummed safetensors file per key."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from deephash.data.descriptors.base import Descriptor
from deephash.data.sealed_tensors import read_tensors, write_tensors
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.data.unfinished_rows import UnfinishedRows, compute_rows
from deephash.validation import StorageError

log = logging.getLogger(__name__)

BLOCK_IMAGES = 256
"""Number of images that are described, and of files that are decoded, at once."""


def read_or_compute(
    folder: str | Path, name: str, key: str, compute: Callable[[UnfinishedRows], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return tensors from the cache, or compute and store them.

    An invalid file is computed again, with a warning. If the folder cannot be written, a warning is issued, and
    the next run computes the tensors again. Rows that the computation adds are kept beside the file until it is
    complete, so that an interrupted computation continues after them.

    Args:
        folder: folder of the cache, created if it does not exist; `~` is the home folder.
        name: prefix of the file's name.
        key: hexadecimal digest of all inputs.
        compute: computes the tensors, given the rows of an interrupted computation.
    """
    path = Path(folder).expanduser() / f"{name}-{key[:32]}.safetensors"
    if path.exists():
        try:
            return read_tensors(path, key)
        except Exception as error:  # safetensors raises its own type for some faults and OSError for others
            warnings.warn(f"{path} cannot be used ({error}); computing it again.", stacklevel=2)
    log.info("%s are computed once and kept in %s", name, path.parent)
    computed = UnfinishedRows(path.with_suffix(".unfinished"), key)
    tensors = compute(computed)
    try:
        write_tensors(path, key, tensors)
        computed.remove()
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

    def describe(start: int, stop: int) -> dict[str, Tensor]:
        return {"features": descriptor.describe(images[start:stop])}

    def compute(computed: UnfinishedRows) -> dict[str, Tensor]:
        return compute_rows(len(images), BLOCK_IMAGES, describe, computed, "Features of images")

    return read_or_compute(folder, name, key.hexdigest(), compute)["features"]


def build_description_key(descriptor: Descriptor | TextDescriptor, of: dict[str, object]) -> "hashlib._Hash":
    """Return a hash object of a descriptor's version and parameters and of other settings, all as JSON."""
    description = {"version": descriptor.version, "parameters": descriptor.parameters(), "of": of}
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode())
