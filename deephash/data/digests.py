"""Digests of loaded data. A run stores them to detect other data under the same name."""

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deephash.data.views import Views

if TYPE_CHECKING:
    from deephash.data.items import Items

BLOCK_ROWS = 65_536
"""Rows hashed at a time, so that a matrix in a file need not fit in memory."""


def features_digest(items: "Items") -> str:
    """Return the SHA-256, in hex, of the features in every view.

    The digest of features that were read covers shape and bytes. Features that were computed here can differ by
    rounding between machines, so the digest of their inputs is used instead.

    Args:
        items: a whole data set.
    """
    digest = hashlib.sha256()
    features = items.features
    views = features.features if isinstance(features, Views) else {"": features}
    for name, rows in views.items():
        digest.update(name.encode())
        if name in items.computed_from:
            digest.update(f"computed;{len(rows)};{items.computed_from[name]}".encode())
        else:
            _update(digest, rows)
        if isinstance(features, Views):
            _update(digest, features.present[name])
    return digest.hexdigest()


def labels_digest(items: "Items") -> str:
    """Return the SHA-256, in hex, of labels and class names; empty without labels.

    Args:
        items: a whole data set.
    """
    if items.labels is None:
        return ""
    digest = hashlib.sha256(json.dumps(list(map(str, items.class_names))).encode())
    _update(digest, items.labels)
    return digest.hexdigest()


def array_digest(array: np.ndarray) -> str:
    """Return the SHA-256, in hex, of an array's shape, dtype and values."""
    digest = hashlib.sha256()
    _update(digest, torch.from_numpy(array))
    return digest.hexdigest()


def words_digest(words: Iterable[object]) -> str:
    """Return the SHA-256, in hex, of words or numbers as JSON."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()


def _update(digest: "hashlib._Hash", rows: Tensor) -> None:
    """Add shape, dtype and bytes to a digest, in blocks."""
    digest.update(f"{rows.dtype};{tuple(rows.shape)};".encode())
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS].detach().cpu().contiguous().flatten()
        digest.update(block.view(torch.uint8).numpy().data)
