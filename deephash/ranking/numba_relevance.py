"""Relevance of items as the CPU kernels read it: segments of a database sorted by class, lists, and bit masks."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deephash.functional.compiled import compiled
from deephash.ranking.numba_layout import pack_words, pad
from deephash.ranking.numba_vectors import LANES
from deephash.ranking.relevance import Neighbours, SharedLabel, SharedLabels


def pack_masks(labels: Tensor) -> NDArray[np.uint64]:
    """Pack multi-label indicators (n, c) into bit masks of 64-bit words (n, M)."""
    return pack_words(np.packbits(labels.numpy(), axis=1, bitorder="little"))


def transpose_masks(labels: Tensor) -> NDArray[np.uint64]:
    """Pack multi-label indicators (n, c) into bit masks (M, n'), padded with zeros to whole tiles of items."""
    masks = pack_masks(labels)
    transposed = np.zeros((masks.shape[1], pad(len(masks), LANES)), np.uint64)
    transposed[:, : len(masks)] = masks.T
    return transposed


def list_relevant(relevance: Neighbours | SharedLabel | SharedLabels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List each query's relevant items: starts and stops (q, 2), ascending ids; queries of a class share a list."""
    if isinstance(relevance, SharedLabel):
        order, segments = segment_by_class(relevance.query.numpy(), relevance.database.numpy())
        return segments, order
    if isinstance(relevance, SharedLabels):
        offsets, ids = list_sharing(pack_masks(relevance.query), pack_masks(relevance.database))
    else:
        offsets, ids = relevance.offsets.numpy(), np.ascontiguousarray(relevance.ids.numpy())
    return np.stack([offsets[:-1], offsets[1:]], 1), ids


def segment_by_class(
    query: NDArray[np.int64], database: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort the database by class and return each query's segment of it.

    Args:
        query: class indices (q,).
        database: class indices (N,).

    Returns:
        order: int64 (N,), database rows by class, ascending within a class.
        segments: int64 (q, 2), start and stop in `order` of the query's class, ascending with the class index.
    """
    count = int(database.max()) + 1 if len(database) else 0
    if count > 4 * len(database) + 1024:  # Sparse indices, such as hashes: number the classes that occur.
        present, database = np.unique(database, return_inverse=True)
        order, starts = sort_by_class(database, len(present))
        place = np.searchsorted(present, query)
        known = np.append(present, -1)[place] == query
        return order, np.stack([starts[place], starts[place + known]], 1)
    order, starts = sort_by_class(database, count)
    return order, np.stack([starts[np.minimum(query, count)], starts[np.minimum(query + 1, count)]], 1)


def sort_by_class(labels: NDArray[np.int64], classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort labels 0 to classes - 1: rows in order of class, stable, and the start of each class (classes + 1,)."""
    starts = np.zeros(classes + 1, np.int64)
    np.cumsum(np.bincount(labels, minlength=classes), out=starts[1:])
    # NumPy sorts integers of at most 16 bits by counting.
    return labels.astype(np.min_scalar_type(max(classes - 1, 0))).argsort(kind="stable"), starts


@compiled
def list_sharing(query_masks, masks):
    """List the database rows that share a label with each query, by bit masks: offsets (q + 1,) and ids."""
    offsets = np.zeros(len(query_masks) + 1, np.int64)
    for i in range(len(query_masks)):
        offsets[i + 1] = offsets[i]
        for j in range(len(masks)):
            if np.any(query_masks[i] & masks[j]):
                offsets[i + 1] += 1
    ids = np.empty(offsets[-1], np.int64)
    for i in range(len(query_masks)):
        entry = offsets[i]
        for j in range(len(masks)):
            if np.any(query_masks[i] & masks[j]):
                ids[entry] = j
                entry += 1
    return offsets, ids
