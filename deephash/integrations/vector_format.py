"""Formats of stored vectors: float32, float16, or int8 with a scale for each vector."""

import numpy as np
from numpy.typing import NDArray

from deephash.validation import InvalidInputError

FLOAT32, FLOAT16, INT8, NONE = "float32", "float16", "int8", "none"
FORMATS = (FLOAT32, FLOAT16, INT8, NONE)
MAX_INT8 = 127
SCALE_BYTES = 4


def vector_width(kind: str, dimension: int) -> int:
    """Return the bytes of a stored vector."""
    return {FLOAT32: 4 * dimension, FLOAT16: 2 * dimension, INT8: dimension + SCALE_BYTES}[kind]


def encode_vectors(vectors: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """Encode vectors float32 (n, d) to bytes (n, w), little-endian.

    int8 values are steps of 1/127 of the largest magnitude of their vector, whose scale is stored before them.

    Raises:
        InvalidInputError: values that float16 does not represent.
    """
    if kind == FLOAT32:
        return np.ascontiguousarray(vectors, "<f4").view(np.uint8)
    if kind == FLOAT16:
        if len(vectors) and np.abs(vectors).max() > np.finfo(np.float16).max:
            raise InvalidInputError(
                f"embeddings reach {np.abs(vectors).max():.1e}; float16 stores magnitudes up to 65504: use "
                "vectors='float32' or scale the embeddings."
            )
        return np.ascontiguousarray(vectors.astype("<f2")).view(np.uint8)
    largest = np.abs(vectors).max(1, initial=0)
    scales = np.where(largest > 0, largest / MAX_INT8, 1).astype("<f4")
    # The scale of a vector of tiny values can vanish in float32.
    scales = np.where(scales > 0, scales, np.finfo(np.float32).tiny)
    values = np.clip(np.rint(vectors / scales[:, None]), -MAX_INT8, MAX_INT8).astype(np.int8)
    return np.concatenate([scales.astype("<f4")[:, None].view(np.uint8), values.view(np.uint8)], 1)


def decode_vectors(stored: NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    """Decode bytes (n, w) to vectors float32 (n, d)."""
    if kind == INT8:
        scales = np.ascontiguousarray(stored[:, :SCALE_BYTES]).view("<f4")
        return np.asarray(stored[:, SCALE_BYTES:].view(np.int8) * scales, np.float32)
    return np.ascontiguousarray(stored).view("<f4" if kind == FLOAT32 else "<f2").astype(np.float32)
