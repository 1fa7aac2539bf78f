"""Layouts of packed codes, labels and weights for the CPU kernels."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deephash.functional.compiled import compiled
from deephash.ranking.distance import Asymmetric, Distance, Hamming, LevelDistance, distance_bytes
from deephash.ranking.numba_kernels import WIDEST

# Up to this length, levels in unary are ranked by popcount faster than as bytes.
UNARY_LENGTH = 512
# Memory of the cost tables of asymmetric distances, which take 1 KiB for each byte of each query.
TABLE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Layout:
    """Queries and database in one layout, and the parameters that specialise the kernels.

    Args:
        queries: uint64 (q, width), uint8 (q, width) or int32 (q, 256 width).
        database: uint64 (N, width) or uint8 (N, width).
        bins: columns of the tables, for the distances 0 to bins - 1.
    """

    queries: NDArray[np.generic]
    database: NDArray[np.generic]
    bins: int

    @property
    def words(self) -> int:
        """Words of a code with specialised kernels; 0 if the kernels for any layout are needed."""
        return self.database.shape[1] if self.database.dtype == np.uint64 and self.database.shape[1] <= WIDEST else 0


def next_power_of_two(value: int) -> int:
    """Return the smallest power of two >= `value`, at least 1; it limits the number of compiled kernels."""
    return 1 << max(value - 1, 0).bit_length()


def pack_words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """View packed bytes (n, B) as 64-bit words (n, W), W a power of two; copy them only if necessary."""
    n, size = codes.shape
    width = next_power_of_two((size + 7) // 8)
    if size == 8 * width and codes.flags.c_contiguous and codes.ctypes.data % 8 == 0:
        return codes.view(np.uint64)
    padded = np.zeros((n, 8 * width), np.uint8)
    padded[:, :size] = codes
    return padded.view(np.uint64)


def build_layout(query_codes: Tensor, database_codes: Tensor, distance: Distance, start: int, stop: int) -> Layout:
    """Lay out the packed codes of the database and of queries start to stop for their distance."""
    queries, database = query_codes[start:stop].numpy(), database_codes.numpy()
    if isinstance(distance, Hamming):
        query_words = pack_words(queries)
        return Layout(query_words, pack_words(database), 64 * query_words.shape[1] + 1)
    if isinstance(distance, LevelDistance):
        bits = np.array(distance.widths, np.int64)
        if distance.maximum <= UNARY_LENGTH:
            width = next_power_of_two((distance.maximum + 63) // 64)
            return Layout(encode_unary(queries, bits, width), encode_unary(database, bits, width), 64 * width + 1)
        width = next_power_of_two(len(bits))
        return Layout(
            decode_levels(queries, bits, width),
            decode_levels(database, bits, width),
            next_power_of_two(distance.maximum + 1),
        )
    width = next_power_of_two(queries.shape[1])
    database_bytes = np.zeros((len(database), width), np.uint8)
    database_bytes[:, : queries.shape[1]] = database
    tables = compute_cost_tables(queries, distance.weights[start:stop].numpy(), width)
    return Layout(tables, database_bytes, next_power_of_two(distance.maximum + 1))


def query_blocks(queries: int, distance: Distance) -> list[tuple[int, int]]:
    """Return starts and stops of blocks of queries whose cost tables take at most TABLE_BYTES."""
    step = queries
    if isinstance(distance, Asymmetric):
        step = max(TABLE_BYTES // (1024 * next_power_of_two(distance_bytes(distance))), 1)
    return [(start, min(start + step, queries)) for start in range(0, queries, step)]


@compiled
def encode_unary(codes, bits, width):
    """Write levels in unary, level v as v ones, so that Hamming distance is the levels' Manhattan distance."""
    unary = np.zeros((codes.shape[0], width), np.uint64)
    for i in range(codes.shape[0]):
        bit, start = 0, 0
        for dimension in range(len(bits)):
            level = 0
            for b in range(bits[dimension]):
                level |= ((codes[i, bit >> 3] >> (bit & 7)) & 1) << b
                bit += 1
            for place in range(start, start + level):
                unary[i, place >> 6] |= np.uint64(1) << np.uint64(place & 63)
            start += (1 << bits[dimension]) - 1
    return unary


@compiled
def decode_levels(codes, bits, width):
    """Decode the integer of each projection from packed codes, uint8 (n, width), padded with zeros."""
    decoded = np.zeros((codes.shape[0], width), np.uint8)
    for i in range(codes.shape[0]):
        bit = 0
        for dimension in range(len(bits)):
            level = 0
            for b in range(bits[dimension]):
                level |= ((codes[i, bit >> 3] >> (bit & 7)) & 1) << b
                bit += 1
            decoded[i, dimension] = level
    return decoded


@compiled
def compute_cost_tables(codes, weights, width):
    """Compute the cost of each value of each database byte for each query, int32 (q, 256 width)."""
    tables = np.zeros((codes.shape[0], 256 * width), np.int32)
    costs = np.zeros(256, np.int32)
    for i in range(codes.shape[0]):
        for byte in range(codes.shape[1]):
            for j in range(8):
                weight = weights[i, 8 * byte + j] if 8 * byte + j < weights.shape[1] else 0
                for value in range(1 << j):
                    costs[value | (1 << j)] = costs[value] + weight
            for value in range(256):
                tables[i, 256 * byte + value] = costs[value ^ codes[i, byte]]
    return tables


@compiled
def sort_by_class(labels, classes):
    """Sort labels 0 to classes - 1 by counting: rows in order of class, stable, and the start of each class."""
    starts = np.zeros(classes + 1, np.int64)
    for j in range(len(labels)):
        starts[labels[j] + 1] += 1
    for c in range(classes):
        starts[c + 1] += starts[c]
    position = starts[:-1].copy()
    order = np.empty(len(labels), np.int64)
    for j in range(len(labels)):
        order[position[labels[j]]] = j
        position[labels[j]] += 1
    return order, starts


@compiled
def select_rows(codes, order):
    """Return rows of `codes` in another order, several times faster than fancy indexing for rows of a few words."""
    selected = np.empty_like(codes)
    for i in range(len(order)):
        for w in range(codes.shape[1]):
            selected[i, w] = codes[order[i], w]
    return selected


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
