"""A cache of computed features: one safetensors file for each set of images and descriptor."""

import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deephash.data.descriptors.base import Descriptor


def cache_key(images: np.ndarray, descriptor: Descriptor) -> str:
    """SHA-256, in hex, of all that features depend on: the pixels, the parameters and the code's version."""
    description = {"version": descriptor.version, "shape": images.shape, "dtype": str(images.dtype)}
    digest = hashlib.sha256(json.dumps(description | descriptor.parameters(), sort_keys=True).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def cached_features(images: np.ndarray, descriptor: Descriptor, folder: str | Path) -> Tensor:
    """Features of images, computed once and kept.

    A file that is truncated, damaged or another's is computed again, with a warning; a folder that cannot be written
    costs the next run the time, not this one its features.

    Args:
        images: uint8 (n, h, w) or (n, h, w, 3).
        descriptor: what describes them.
        folder: where features are kept; `~` is the home folder. Made where it does not exist.

    Returns:
        float32 (n, d).
    """
    key = cache_key(images, descriptor)
    path = Path(folder).expanduser() / f"{type(descriptor).__name__.lower()}-{key[:32]}.safetensors"
    if path.exists():
        try:
            return _read(path, key, len(images))
        except Exception as error:  # safetensors raises its own type for some faults and OSError for others
            warnings.warn(f"{path} cannot be used ({error}); computing its features again.", stacklevel=2)
    features = descriptor.describe(images)
    try:
        _write(path, key, features)
    except OSError as error:
        warnings.warn(f"{path} cannot be written ({error}); these features are not kept.", stacklevel=2)
    return features


def _read(path: Path, key: str, n: int) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        features: Tensor = file.get_tensor("features")
    if metadata.get("key") != key:
        raise ValueError("it holds the features of other images or parameters")
    if features.dtype != torch.float32 or features.ndim != 2 or len(features) != n:
        raise ValueError(f"it holds {features.dtype} of shape {tuple(features.shape)}")
    if metadata.get("sha256") != _digest(features):
        raise ValueError("its contents do not match their checksum")
    return features


def _write(path: Path, key: str, features: Tensor) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may compute the same features at once: each writes its own file, and the last rename wins.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file({"features": features}, partial, {"key": key, "sha256": _digest(features)})
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().data).hexdigest()
