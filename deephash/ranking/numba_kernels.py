"""Ranking kernels for the CPU, compiled by numba: they measure 8 queries against a chunk of items, then count or pick.

A kernel is serial code over a range of queries that releases the GIL; the engine runs it in its own threads. Every
kernel calls `measure`, which has one form for each layout (`numba_layout.Layout`), and then reads the distances from
the cache. Their dtype, that of `scratch`, is uint8 where that is wide enough, since vectors hold more of them.

All compiled functions that may change are in this file and in `numba_vectors`, because numba's disk cache watches only
the file of the kernel itself.
"""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs, disable-error-code="assignment, call-arg, attr-defined, var-annotated"

import numpy as np
from numba import types
from numba.extending import overload

from deephash.functional.compiled import compiled
from deephash.ranking.numba_vectors import (
    GROUP,
    LANES,
    SHUFFLES,
    add_costs,
    add_popcounts,
    at_most,
    lowest_one,
    pointer_to,
    popcount,
    tally,
)

# Queries of a block, and items of a chunk: their distances stay in the first-level cache.
BLOCK, CHUNK = 2 * GROUP, 1024
COUNTED, TALLIED = 32 * CHUNK, 512  # Items that are counted at a time, and those of a block that vectors count.


def measure(queries, first, used, database, start, size, group, distances):
    """Write the distances of queries from `first` to the items from `start`, a multiple of 64; only in compiled code.

    Args:
        queries: queries of a layout.
        first: first query, a multiple of 4 for tiles.
        used: number of queries, at most 8.
        database: database of the layout.
        start: first item.
        size: number of items.
        group: bytes of a code whose sums of costs fit in a uint8.
        distances: unsigned (8, n) with n >= size, a multiple of 64; rows beyond `used` may be overwritten.
    """
    raise NotImplementedError


@overload(measure)
def _measure(queries, first, used, database, start, size, group, distances):
    if database.ndim == 3 and queries.ndim == 4:
        return _measure_costs
    if database.ndim == 3:
        return _measure_bytes
    if queries.dtype == types.uint64:
        return _measure_words
    return _measure_levels if queries.dtype == types.uint8 else _measure_tables


def _measure_costs(queries, first, used, database, start, size, group, distances):
    digits, width, row_length = queries.shape[1], database.shape[1], distances.strides[0] // distances.itemsize
    for tile in range(start // LANES, (start + size + LANES - 1) // LANES):
        items = pointer_to(database, tile * width * LANES)
        for row in range(0, used, GROUP):
            out = pointer_to(distances, row * row_length + tile * LANES - start)
            for digit in range(digits):
                tables = pointer_to(queries, ((first + row) * digits + digit) * width * 32)
                for byte in range(0, width, group):
                    stop, more = min(byte + group, width), digit + byte > 0
                    add_costs(tables, digits * width, items, byte, stop, out, row_length, 4 * digit, more)


def _measure_bytes(queries, first, used, database, start, size, group, distances):
    width, row_length = database.shape[1], distances.strides[0] // distances.itemsize
    for tile in range(start // LANES, (start + size + LANES - 1) // LANES):
        items = pointer_to(database, tile * width * LANES)
        for row in range(0, used, GROUP):
            out = pointer_to(distances, row * row_length + tile * LANES - start)
            words = pointer_to(queries, (first + row) * width)
            for byte in range(0, width, group):
                stop = min(byte + group, width)
                add_popcounts(words, width, items, byte, stop, out, row_length, 0, byte > 0)


def _measure_words(queries, first, used, database, start, size, group, distances):
    width = queries.shape[1]
    part = database[start : start + size]
    for a in range(used):
        row = distances[a]
        if width == 1:  # A loop over one word would not become vector instructions.
            word = queries[first + a, 0]
            for j in range(size):
                row[j] = popcount(word ^ part[j, 0])
        else:
            for j in range(size):
                distance = np.uint64(0)
                for w in range(width):
                    distance += popcount(queries[first + a, w] ^ part[j, w])
                row[j] = distance


def _measure_levels(queries, first, used, database, start, size, group, distances):
    part = database[start : start + size]
    for a in range(used):
        for j in range(size):
            distance = np.int32(0)
            for w in range(queries.shape[1]):
                distance += abs(np.int32(queries[first + a, w]) - np.int32(part[j, w]))
            distances[a, j] = distance


def _measure_tables(queries, first, used, database, start, size, group, distances):
    part = database[start : start + size]
    for a in range(used):
        for j in range(size):
            distance = np.int32(0)
            for w in range(part.shape[1]):
                distance += queries[first + a, 256 * w + np.int64(part[j, w])]
            distances[a, j] = distance


def count(distances, counts):
    """Add the numbers of contiguous distances to counts (D + 8,), int64; works only in compiled code."""
    raise NotImplementedError


@overload(count)
def _count(distances, counts):
    def count_each(distances, counts):
        for j in range(distances.size):
            counts[np.uint64(distances[j])] += 1

    if not SHUFFLES or distances.dtype != types.uint8:
        return count_each

    def count_bytes(distances, counts):
        # The processor stores one count per cycle at most, so that up to 128 distances are sooner counted in vectors.
        counted = distances.size // TALLIED * TALLIED
        if counted:
            lowest, highest = distances[0], distances[0]
            for j in range(distances.size):
                lowest, highest = min(lowest, distances[j]), max(highest, distances[j])
            least, most = np.int64(lowest), np.int64(highest)
            if most - least > 128:
                counted = 0
        if counted:
            expected = counted + counts[most]
            for d in range(least, most):
                expected += counts[d]
            for d in range(least, most, 8):
                tally(pointer_to(distances, 0), counted // TALLIED, d, pointer_to(counts, d))
            # The items at the largest distance are the rest.
            for d in range(least, most):
                expected -= counts[d]
            counts[most] = expected
        for j in range(counted, distances.size):
            counts[np.uint64(distances[j])] += 1

    return count_bytes


@compiled
def count_relevant(queries, database, items, group, scratch, segments, lists, ids, total, relevant, begin, end):
    """Count all items, and the relevant ones, at each distance; fills `total` and `relevant`, int64 (q, D + 1).

    Relevant are the items of a segment of the database, sorted by class, whose start and stop are in `segments`, int64
    (q, 2), and the listed ones. `lists`, int64 (q, 2), contains the start and stop of each list in `ids`, ascending.

    The first arguments of every kernel are those of the layout. `scratch` is an empty array of the distances' dtype.
    The last two are the first query, a multiple of 8, and the one after the last.
    """
    bins = total.shape[1]
    # One tile more, since rows a power of two apart would compete for the same places of the cache.
    distances = np.empty((BLOCK, min(COUNTED, items) // LANES * LANES + 2 * LANES), scratch.dtype)
    everywhere, inside = np.empty((BLOCK, bins + 7), np.int64), np.empty((BLOCK, bins + 7), np.int64)
    entries = np.empty(BLOCK, np.int64)
    for first in range(begin, end, BLOCK):
        used = min(BLOCK, end - first)
        everywhere[:], inside[:] = 0, 0
        for a in range(used):  # Assignment of arrays takes seconds to compile.
            entries[a] = lists[first + a, 0]
        for start in range(0, items, COUNTED):
            size = min(COUNTED, items - start)
            measure(queries, first, used, database, start, size, group, distances)
            for a in range(used):
                row = distances[a]
                low = min(max(segments[first + a, 0] - start, 0), size)
                high = min(max(segments[first + a, 1] - start, low), size)
                count(row[:size], everywhere[a])
                count(row[low:high], inside[a])
                entry = entries[a]
                while entry < lists[first + a, 1] and ids[entry] < start + size:
                    inside[a, np.uint64(row[ids[entry] - start])] += 1
                    entry += 1
                entries[a] = entry
        for a in range(used):
            for d in range(bins):
                relevant[first + a, d] = inside[a, d]
                total[first + a, d] = everywhere[a, d]


@compiled
def count_sharing(queries, database, items, group, scratch, query_masks, masks, total, relevant, begin, end):
    """Count all items, and those that share a label by the bit masks uint64 (q, M) and (M, N), at each distance."""
    bins = total.shape[1]
    distances = np.empty((BLOCK, CHUNK), scratch.dtype)
    shares, places = np.empty(CHUNK, np.uint8), np.empty(CHUNK, np.uint32)
    # Two counts in turn, so that equal distances one after another do not wait for each other's count.
    counts = np.empty((BLOCK, 2, 2 * bins), np.int64)
    for first in range(begin, end, BLOCK):
        used = min(BLOCK, end - first)
        counts[:] = 0
        for start in range(0, items, CHUNK):
            size = min(CHUNK, items - start)
            measure(queries, first, used, database, start, size, group, distances)
            for a in range(used):
                shares[:] = 0
                for word in range(len(masks)):
                    mask = query_masks[first + a, word]
                    if mask:
                        part = masks[word, start : start + size]
                        for j in range(size):
                            shares[j] |= (part[j] & mask) != 0
                row, half = distances[a], size // 2
                for j in range(size):
                    places[j] = row[j] + shares[j] * np.uint32(bins)
                even, odd = counts[a]
                for j in range(half):
                    even[np.uint64(places[j])] += 1
                    odd[np.uint64(places[np.uint64(half + j)])] += 1
                if size % 2:
                    even[np.uint64(places[size - 1])] += 1
        for a in range(used):
            for d in range(bins):
                relevant[first + a, d] = counts[a, 0, bins + d] + counts[a, 1, bins + d]
                total[first + a, d] = counts[a, 0, d] + counts[a, 1, d] + relevant[first + a, d]


@compiled
def search_nearest(queries, database, items, group, scratch, bins, distances, ids, begin, end):
    """Find the k nearest items of each query in one pass and without a sort.

    A query takes the items nearer than its limit and counts their distances. After each chunk, the limit falls to the
    distance within which k items are, since a later item at that distance loses the tie. The first chunk's own counts
    give its limit. Finally the counts give the start of each distance in the result, and the taken items, in database
    order, are written to their places. `bins` is the number of possible distances, D + 1; `distances` and `ids`, int64
    (q, k), are filled.
    """
    k = distances.shape[1]
    near = np.empty((BLOCK, CHUNK), scratch.dtype)
    counts = np.empty((BLOCK, bins + 7), np.int64)
    limits, within, lengths = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    tiles, masks = np.empty(CHUNK // LANES, np.int64), np.empty(CHUNK // LANES, np.uint64)
    # Distance and id of each taken item. Few elements are used, and unused memory is not committed.
    taken = np.empty((BLOCK, items + 1), np.int64)
    placed = np.empty(k + 1, np.int64)
    for first in range(begin, end, BLOCK):
        used = min(BLOCK, end - first)
        limits[:], within[:], lengths[:], counts[:] = bins, 0, 0, 0
        for start in range(0, items, CHUNK):
            size = min(CHUNK, items - start)
            measure(queries, first, used, database, start, size, group, near)
            for a in range(used):
                limit, length, row, number = limits[a], lengths[a], near[a], counts[a]
                if start == 0 and size > k:
                    count(row[:size], number)
                    limit, reached = 0, 0
                    while reached < k:
                        reached += number[limit]
                        limit += 1
                    number[:] = 0
                if limit == 0:
                    continue
                hits = 0
                for tile in range((size + LANES - 1) // LANES):
                    tiles[hits] = tile * LANES
                    masks[hits] = at_most(pointer_to(near, a * CHUNK + tile * LANES), limit - 1)
                    hits += masks[hits] != 0
                for hit in range(hits):
                    mask = masks[hit]
                    while mask:
                        j = tiles[hit] + np.int64(lowest_one(mask))
                        mask &= mask - np.uint64(1)
                        if j < size:
                            distance = np.int64(row[j])
                            taken[a, np.uint64(length)] = distance << 40 | start + j
                            length += 1
                            number[np.uint64(distance)] += 1
                inside = within[a] + length - lengths[a]
                while inside >= k:
                    limit -= 1
                    inside -= number[np.uint64(limit)]
                limits[a], within[a], lengths[a] = limit, inside, length
        for a in range(used):
            number, length = counts[a], 0
            # Compact without branches first, since the order of distances is random.
            for entry in range(lengths[a]):
                taken[a, np.uint64(length)] = taken[a, entry]
                length += taken[a, entry] >> 40 <= limits[a]
            nearer = 0
            for d in range(limits[a] + 1):
                nearer, number[d] = nearer + number[d], nearer
            for entry in range(length):
                distance = np.uint64(taken[a, entry] >> 40)
                placed[min(number[distance], k)] = taken[a, entry]
                number[distance] += 1
            for place in range(k):
                distances[first + a, place] = placed[place] >> 40
                ids[first + a, place] = placed[place] & ((1 << 40) - 1)


@compiled
def rank_listed(queries, database, items, group, scratch, bins, lists, ids, offsets, ranks, begin, end):
    """Compute the ranks of each query's listed items in the stable order, without a sort.

    Histograms give the first rank at each distance; a pass over the items in database order then meets them in the
    order of their ranks within a distance. `nearer` and `listed_nearer` contain, for each distance, the next rank of an
    item and the next place of a listed item's rank. `lists` and `ids` are as for `count_relevant`; the ranks of query i
    are written to `ranks` from offsets[i].
    """
    distances = np.empty((BLOCK, (items + LANES - 1) // LANES * LANES), scratch.dtype)
    for first in range(begin, end, BLOCK):
        used = min(BLOCK, end - first)
        for start in range(0, items, CHUNK):
            size = min(CHUNK, items - start)
            measure(queries, first, used, database, start, size, group, distances[:, start:])
        for a in range(used):
            row, (entry, stop) = distances[a], lists[first + a]
            nearer = np.zeros(bins + 1, np.int64)
            listed_nearer = np.zeros(bins + 1, np.int64)
            for j in range(items):
                nearer[np.int64(row[j]) + 1] += 1
            for place in range(entry, stop):
                listed_nearer[np.int64(row[ids[place]]) + 1] += 1
            listed_nearer[0] = offsets[first + a]
            for d in range(bins):
                nearer[d + 1] += nearer[d]
                listed_nearer[d + 1] += listed_nearer[d]
            for j in range(items):
                d = np.int64(row[j])
                if entry < stop and ids[entry] == j:
                    ranks[listed_nearer[d]] = nearer[d]
                    listed_nearer[d] += 1
                    entry += 1
                nearer[d] += 1
