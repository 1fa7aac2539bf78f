"""Exact Euclidean neighbourhoods, by radius and by rank, with equal results on every machine.

Neighbours are defined by the squared distance Σ (a_i − b_i)² in float64, with ties by database row. A float32 matrix
product with an error bound decides most pairs; only the others are computed in float64. The result depends neither on
the block size nor on the BLAS. Data far from the origin take longer but remain exact.

Memory in addition to the result: float32 copies of queries and database, and a block of BLOCK_PAIRS float32 values.
"""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from deephash.io.progress import track
from deephash.validation import check_scale

# Query-database pairs per block, 128 MiB of float32.
BLOCK_PAIRS = 2**25
# Elements per step of the float64 computation of undecided pairs.
EXACT_ELEMENTS = 2**22
# Between these magnitudes, float64 represents squares, and their sums over dimensions, at full precision.
MIN_MAGNITUDE, MAX_MAGNITUDE = 1e-140, 1e140
# Rows converted at a time, to avoid a float64 copy of all features.
ROWS = 2**14


def check_distances(features: Tensor, name: str) -> None:
    """Raise an error for features whose squared distances overflow or underflow float64, so that all would be ties.

    Raises:
        InvalidInputError: the message has the largest magnitude.
    """
    check_scale(features, name, MIN_MAGNITUDE, MAX_MAGNITUDE)


def as_array(features: Tensor) -> np.ndarray:
    """Convert features to a NumPy array; bfloat16, which NumPy lacks, becomes float32 without loss."""
    features = features.detach().cpu()
    array: np.ndarray = (features.float() if features.dtype == torch.bfloat16 else features).numpy()
    return array


def find_within_radius(
    queries: np.ndarray,
    database: np.ndarray,
    radius: float,
    block_pairs: int = BLOCK_PAIRS,
    description: str = "Neighbours within the radius",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find the database rows at a distance of at most `radius`, in blocks of queries.

    Args:
        queries: floating (q, d).
        database: floating (N, d).
        radius: at least 0; a pair is within it if its squared distance in float64 is at most radius².
        block_pairs: query-database pairs per block.
        description: description of the progress bar.

    Yields:
        For each block, the number of neighbours of each query, int64 (m,), and the rows of the neighbours, int64,
        ascending within a query.
    """
    squared_radius = radius * radius
    for start, values, norms, errors, scale in _approximate_blocks(queries, database, block_pairs, description):
        # float64 bounds of the undecided values, without the norms, which `values` omit.
        centre = squared_radius * scale * scale - norms
        flat = np.flatnonzero(values <= _to_float32(centre + errors)[:, None])
        rows, ids = np.divmod(flat, len(database))
        decided = values[rows, ids] < _to_float32(centre - errors)[rows]
        undecided = np.flatnonzero(~decided)
        exact = squared_distances(queries, database, start + rows[undecided], ids[undecided])
        decided[undecided[exact <= squared_radius]] = True
        yield np.bincount(rows[decided], minlength=len(values)), ids[decided]


def find_nearest(
    queries: np.ndarray,
    database: np.ndarray,
    k: int,
    block_pairs: int = BLOCK_PAIRS,
    description: str = "Nearest neighbours",
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest database rows of each query, ties at the k-th distance by lower row.

    Args:
        queries: floating (q, d).
        database: floating (N, d).
        k: 1 to N.
        block_pairs: query-database pairs per block.
        description: description of the progress bar.

    Returns:
        Rows, int64 (q, k), ascending within a query; and the squared distance of the k-th nearest, float64 (q,).
    """
    nearest = np.empty((len(queries), k), np.int64)
    kth_distances = np.empty(len(queries))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start, values, _, errors, _ in _approximate_blocks(queries, database, block_pairs, description):
            m = len(values)
            kth = np.array(list(threads.map(lambda row: np.partition(row, k - 1)[k - 1], values)), np.float64)
            # The k-th distance and that of each item differ from their approximations by at most one error each.
            flat = np.flatnonzero(values <= _to_float32(kth + 2 * errors)[:, None])
            rows, ids = np.divmod(flat, len(database))
            chosen = values[rows, ids] < _to_float32(kth - 2 * errors)[rows]
            undecided = np.flatnonzero(~chosen)
            exact = squared_distances(queries, database, start + rows[undecided], ids[undecided])
            order = np.lexsort((exact, rows[undecided]))  # A stable sort keeps ties in the order of their rows.
            undecided, exact = undecided[order], exact[order]
            counts = np.bincount(rows[undecided], minlength=m)
            rank = np.arange(len(undecided)) - np.repeat(np.cumsum(counts) - counts, counts)
            missing = (k - np.bincount(rows[chosen], minlength=m))[rows[undecided]]
            kth_distances[start : start + m] = exact[rank == missing - 1]
            chosen[undecided[rank < missing]] = True
            nearest[start : start + m] = ids[chosen].reshape(m, k)
    return nearest, kth_distances


def squared_distances(
    queries: np.ndarray, database: np.ndarray, query_rows: np.ndarray, database_rows: np.ndarray
) -> np.ndarray:
    """Squared distances of listed pairs in float64, which define the neighbourhoods.

    Args:
        queries: floating (q, d).
        database: floating (N, d).
        query_rows: int64 (p,).
        database_rows: int64 (p,).

    Returns:
        float64 (p,).
    """
    squared = np.empty(len(query_rows))
    step = max(1, EXACT_ELEMENTS // database.shape[1])
    for start in range(0, len(query_rows), step):
        pairs = slice(start, start + step)
        difference = database[database_rows[pairs]].astype(np.float64)
        difference -= queries[query_rows[pairs]]
        difference *= difference
        squared[pairs] = difference.sum(1)
    return squared


def _approximate_blocks(
    queries: np.ndarray, database: np.ndarray, block_pairs: int, description: str
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, float]]:
    """Compute squared distances by a float32 matrix product, with a bound on their error.

    Features are centred on the database's mean, to reduce cancellation, and scaled by a power of two, which is exact,
    so that no square overflows.

    Yields:
        First query of the block; float32 (m, N) values = scale²·distance² − norms, overwritten by the next block;
        float64 (m,) norms; float64 (m,) errors, which bound |values − true values|; the scale.
    """
    d = database.shape[1]
    mean = database.mean(0, dtype=np.float64)
    largest = max(float(np.abs(part - mean).max(initial=0)) for part in _split_rows((database, queries)))
    scale = 2.0 ** min(-math.ceil(math.log2(largest)), 400) if largest > 0 else 1.0
    # The inner product of rows (−2a, 1) and (b, |b|²) is |b|² − 2ab.
    right = np.empty((len(database), d + 1), np.float32)
    left = np.ones((len(queries), d + 1), np.float32)
    for source, target in ((database, right), (queries, left)):
        for start in range(0, len(source), ROWS):
            target[start : start + ROWS, :d] = (source[start : start + ROWS] - mean) * scale
    right[:, d] = np.einsum("nd,nd->n", right[:, :d], right[:, :d])
    norms = np.einsum("nd,nd->n", left[:, :d], left[:, :d], dtype=np.float64)
    left[:, :d] *= -2
    # Rounding errors of the centred features, the squares and a product of d + 1 terms, relative to (|a| + |b|)².
    reach = np.sqrt(norms) + np.sqrt(right[:, d].max(initial=0))
    errors = float(np.finfo(np.float32).eps) * (2 * d + 16) * reach**2
    m = max(1, min(block_pairs // max(1, len(database)), len(queries)))
    values = np.empty((m, len(database)), np.float32)
    for start in track(range(0, len(queries), m), description):
        block = slice(start, min(start + m, len(queries)))
        out = values[: block.stop - start]
        np.matmul(left[block], right.T, out=out)
        yield start, out, norms[block], errors[block], scale


def _split_rows(matrices: tuple[np.ndarray, ...]) -> Iterator[np.ndarray]:
    for matrix in matrices:
        for start in range(0, len(matrix), ROWS):
            yield matrix[start : start + ROWS]


def _to_float32(bounds: np.ndarray) -> np.ndarray:
    # Rounding changes a bound by less than the slack in the error. A bound that overflows to infinity
    # gives the same decisions.
    with np.errstate(over="ignore"):
        return bounds.astype(np.float32)
