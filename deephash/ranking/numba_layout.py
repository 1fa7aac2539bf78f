"""Layouts of packed codes and weights for the CPU kernels."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deephash.functional.compiled import compiled
from deephash.ranking.base import MAX_FEW
from deephash.ranking.distance import Asymmetric, Distance, Hamming, LevelDistance, distance_bytes
from deephash.ranking.numba_kernels import BLOCK
from deephash.ranking.numba_rows import pack_rows
from deephash.ranking.numba_vectors import LANES, SHUFFLES, target_features

# Up to this many queries, codes are compared as they are: to lay the database out in tiles takes longer.
FEW, FEW_ASYMMETRIC = MAX_FEW, 2
# Items that are copied into tiles at a time, a multiple of 64, so that they stay in the cache.
COPIED = 1 << 14
# Memory of the cost tables of a block of queries.
TABLE_BYTES = 64 * 2**20


def choose_form(features: frozenset[str]) -> str:
    """Return the layout of Hamming codes that is fastest for many queries, from a processor's features.

    Args:
        features: names of instruction sets, as in LLVM.

    Returns:
        "popcounts" if one instruction counts the ones in each byte of a vector (AVX-512 BITALG, NEON); "costs" if byte
        shuffles can look up the cost of each half byte (AVX2); otherwise "words", popcounts of 64-bit words.
    """
    if {"avx512bw", "avx512bitalg"} <= features or "neon" in features:
        return "popcounts"
    return "costs" if "avx2" in features else "words"


def choose_few_form(features: frozenset[str]) -> str:
    """Return the layout of Hamming codes that is fastest for few queries: "rows" with AVX-512 VPOPCNTDQ, or "words"."""
    return "rows" if {"avx512f", "avx512vpopcntdq"} <= features else "words"


FORM, FEW_FORM = choose_form(target_features()), choose_few_form(target_features())


@dataclass(frozen=True)
class Layout:
    """Queries and database in one layout, and what the kernels need beside it.

    The layout is one of these, which the dtypes and dimensions of the arrays tell apart:

    - words: queries and database uint64 (n, width), compared by popcount;
    - rows: queries uint64 of `pack_rows`, compared with a database uint8 (N, width) in vectors;
    - levels: uint8 (n, width), compared by absolute difference;
    - tables: queries int32 (q, 256 width), the cost of each value of each byte of a database uint8 (N, width);
    - popcounts: queries uint32 (q, width), each byte of a code four times, and a database in tiles;
    - costs: queries uint8 (q, digits, width, 32), the cost of each value of the lower and the upper half of each byte,
      in digits of base 16, and a database in tiles.

    Tiles are uint8 (tiles, width, 64): byte w of item 64 t + i is at [t, w, i]. Beside tiles, queries are padded to
    whole blocks.

    Args:
        queries: queries in the layout.
        database: database in the layout.
        items: number of items N.
        maximum: largest distance D.
        group: bytes of a code in tiles whose sums of costs fit in a uint8.
    """

    queries: NDArray[np.generic]
    database: NDArray[np.generic]
    items: int
    maximum: int
    group: int = 1

    @property
    def arguments(self) -> tuple[NDArray[np.generic], NDArray[np.generic], int, int, NDArray[np.generic]]:
        """First arguments of every kernel; the last is an empty array of the narrowest dtype for the distances."""
        scratch = np.empty(0, np.min_scalar_type(self.maximum))
        return self.queries, self.database, self.items, self.group, scratch


def next_power_of_two(value: int) -> int:
    """Return the smallest power of two >= `value`, at least 1."""
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


def query_blocks(queries: int, distance: Distance) -> list[tuple[int, int]]:
    """Return starts and stops of blocks of queries whose tables of costs take about TABLE_BYTES at most."""
    step = max(TABLE_BYTES // (1024 * distance_bytes(distance)) // BLOCK, 1) * BLOCK
    return [(start, min(start + step, queries)) for start in range(0, queries, step)]


def build_layout(
    query_codes: NDArray[np.uint8],
    database_codes: NDArray[np.uint8],
    distance: Distance,
    weights: NDArray[np.int32],
    order: NDArray[np.int64] | None = None,
) -> Layout:
    """Lay out packed codes for their distance.

    Args:
        query_codes: uint8 (q, B).
        database_codes: uint8 (N, B).
        distance: distance to rank by.
        weights: int32 (q, b), the weights of these queries in an asymmetric distance; otherwise ignored.
        order: int64 (N,), database rows in the order of the layout; None keeps their order.
    """
    items, maximum, width = len(database_codes), distance.maximum, query_codes.shape[1]
    few = len(query_codes) <= FEW
    if isinstance(distance, Hamming) and FORM == "popcounts" and not few:
        words = np.zeros((pad(len(query_codes), BLOCK), width), np.uint32)
        words[: len(query_codes)] = query_codes * np.uint32(0x01010101)
        return Layout(words, lay_tiles(database_codes, order), items, maximum, width if maximum < 256 else 31)
    if isinstance(distance, Hamming) and few and FEW_FORM == "rows":
        return Layout(pack_rows(query_codes), reorder(database_codes, order), items, maximum)
    if isinstance(distance, Hamming) and (FORM != "costs" or few):
        return Layout(pack_words(query_codes), reorder(pack_words(database_codes), order), items, maximum)
    widths = np.array(distance_widths(distance), np.int64)
    few = isinstance(distance, Asymmetric) and len(query_codes) <= FEW_ASYMMETRIC
    if FORM != "words" and SHUFFLES and widths.max() <= 4 and not few:
        if not isinstance(distance, Asymmetric):
            weights = np.ones((0, len(widths)), np.int32)
        return lay_costs(query_codes, database_codes, maximum, widths, weights, order)
    if isinstance(distance, LevelDistance):
        queries, database = decode_levels(query_codes, widths), decode_levels(database_codes, widths)
        return Layout(queries, reorder(database, order), items, maximum)
    return Layout(compute_cost_tables(query_codes, weights), reorder(database_codes, order), items, maximum)


def lay_costs(
    query_codes: NDArray[np.uint8],
    database_codes: NDArray[np.uint8],
    maximum: int,
    widths: NDArray[np.int64],
    weights: NDArray[np.int32],
    order: NDArray[np.int64] | None,
) -> Layout:
    """Lay out levels of at most 4 bits, with weights (q, levels) or none (0, levels), as costs of half bytes."""
    places = place_levels(widths)
    width = int(places[-1] + widths[-1] + 7) // 8
    if (places != np.cumsum(widths) - widths).any():
        query_codes = spread_levels(query_codes, widths, places, width)
        database_codes = spread_levels(database_codes, widths, places, width)
    # One digit is enough if the sums of all costs fit in a uint8. Otherwise digits are small, so that many fit.
    digits, group, mask = 1, width, 255
    if maximum > 255:
        halves = np.flatnonzero(np.diff(places // 4, prepend=-1))
        most = (weights if len(weights) else 1) * ((1 << widths) - 1)
        largest = int(np.add.reduceat(np.atleast_2d(most), halves, axis=1).max())
        digits, group, mask = -(-largest.bit_length() // 4), 255 // (2 * min(largest, 15)), 15
    costs = np.zeros((pad(len(query_codes), BLOCK), digits, width, 32), np.uint8)
    if len(weights):
        compute_costs(query_codes, widths, places, weights, mask, costs)
    else:
        by_value = costs_by_value(tuple(widths.tolist()), digits, width, mask)
        half_bytes = np.stack([query_codes & 15, query_codes >> 4], 2).astype(np.intp)
        rows = by_value.take(half_bytes + 16 * np.arange(2 * width).reshape(width, 2), axis=0)
        costs[: len(query_codes)] = rows.transpose(0, 3, 1, 2, 4).reshape(len(query_codes), digits, width, 32)
    return Layout(costs, lay_tiles(database_codes, order), len(database_codes), maximum, group)


@lru_cache(maxsize=16)
def costs_by_value(widths: tuple[int, ...], digits: int, width: int, mask: int) -> NDArray[np.uint8]:
    """Tabulate the costs of levels without weights by the 16 values of a query's half byte.

    Args:
        widths: bits of each level.
        digits: number of digits of a cost.
        width: bytes of a code.
        mask: largest value of a digit.

    Returns:
        uint8 (width × 2 × 16, digits, 16): rows by byte, half and the query's value; columns by digit and item's value.
    """
    values = np.arange(16)
    costs = np.zeros((2 * width, 16, 16), np.int64)
    for place, bits in zip(place_levels(np.array(widths, np.int64)).tolist(), widths, strict=True):
        if bits:
            level = values >> place % 4 & (1 << bits) - 1
            costs[place // 4] += abs(level[:, None] - level)
    return (costs[:, :, None] >> 4 * np.arange(digits)[:, None] & mask).astype(np.uint8).reshape(width * 32, digits, 16)


def lay_tiles(codes: NDArray[np.uint8], order: NDArray[np.int64] | None) -> NDArray[np.uint8]:
    """Lay out codes (N, B) in tiles of 64 items, uint8 (tiles, B, 64), padded with zeros."""
    items, width = codes.shape
    tiles = np.zeros((pad(items, LANES) // LANES, width, LANES), np.uint8)
    for first in range(0, items, COPIED):
        part = codes[first : first + COPIED] if order is None else codes.take(order[first : first + COPIED], axis=0)
        whole = len(part) // LANES * LANES
        tiles[first // LANES : (first + whole) // LANES] = part[:whole].reshape(-1, LANES, width).transpose(0, 2, 1)
        if whole < len(part):
            tiles[-1, :, : len(part) - whole] = part[whole:].T
    return tiles


def reorder(codes: NDArray[np.generic], order: NDArray[np.int64] | None) -> NDArray[np.generic]:
    """Return rows in another order, if one is given."""
    return codes if order is None else codes[order]


def distance_widths(distance: Distance) -> tuple[int, ...]:
    """Return the bits of each level of a code; those of Hamming codes have one bit."""
    return distance.widths if isinstance(distance, LevelDistance) else (1,) * distance.code_bits


def place_levels(widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first bit of each level in codes where no level, of at most 4 bits, is in two half bytes."""
    places, bit = [], 0
    for width in widths.tolist():
        if bit % 4 + width > 4:
            bit += 4 - bit % 4
        places.append(bit)
        bit += width
    return np.array(places, np.int64)


def pad(number: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `number`."""
    return -(-number // multiple) * multiple


@compiled
def spread_levels(codes, widths, places, width):
    """Move each level of packed codes to its place, in codes of `width` bytes."""
    spread = np.zeros((codes.shape[0], width), np.uint8)
    for i in range(codes.shape[0]):
        bit = 0
        for level in range(len(widths)):
            for place in range(places[level], places[level] + widths[level]):
                spread[i, place >> 3] |= ((codes[i, bit >> 3] >> (bit & 7)) & 1) << (place & 7)
                bit += 1
    return spread


@compiled
def compute_costs(codes, widths, places, weights, mask, costs):
    """Fill costs (q, digits, width, 32) with the cost of each half byte; the digits are cut out by `mask`."""
    values = np.empty((costs.shape[2], 2, 16), np.int32)
    for i in range(codes.shape[0]):
        values[:] = 0
        for level in range(len(widths)):
            place, ones = places[level], np.int32((1 << widths[level]) - 1)
            # A level of 0 bits at the end has no byte.
            if ones:
                query, shift = np.int32(codes[i, place >> 3] >> (place & 7)) & ones, np.int32(place & 3)
                row = values[place >> 3, (place >> 2) & 1]
                weight = weights[i, level]
                for value in range(16):
                    row[value] += weight * abs(((np.int32(value) >> shift) & ones) - query)
        for digit in range(costs.shape[1]):
            for byte in range(costs.shape[2]):
                for entry in range(32):
                    cost = values[byte, entry // 16, entry % 16] >> np.int32(4 * digit)
                    costs[i, digit, byte, entry] = cost & np.int32(mask)


@compiled
def decode_levels(codes, bits):
    """Decode the integer of each projection from packed codes, uint8 (n, k)."""
    decoded = np.zeros((codes.shape[0], len(bits)), np.uint8)
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
def compute_cost_tables(codes, weights):
    """Compute the cost of each value of each database byte for each query, int32 (q, 256 B)."""
    tables = np.zeros((codes.shape[0], 256 * codes.shape[1]), np.int32)
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
