"""Ranking kernels for the CPU, compiled by numba: they measure 8 queries against a chunk of items, then count.

A kernel is serial code over a range of queries that releases the GIL; the engine runs it in its own threads. Every
kernel calls `measure`, which has one form for each layout (`numba_layout.Layout`), and then reads the distances from
the cache. Their dtype, that of `scratch`, is uint8 where that is wide enough, since vectors hold more of them.

numba's disk cache watches only the file of the kernel itself: after a change of a file that a kernel imports, delete
the cache.
"""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs, disable-error-code="assignment, call-arg, attr-defined, var-annotated"

import numpy as np
from numba import types
from numba.extending import overload

from deephash.functional.compiled import compiled
from deephash.ranking.numba_rows import (
    ITEMS,
    VECTOR,
    write_long_codes,
    write_words_1,
    write_words_2,
    write_words_4,
    write_words_8,
)
from deephash.ranking.numba_tallies import any_common, keep_marked, tally, tally_64, tally_128
from deephash.ranking.numba_vectors import (
    GROUP,
    LANES,
    PERMUTES,
    SHUFFLES,
    add_costs,
    add_popcounts,
    pointer_to,
    popcount,
    write_popcounts,
)

# Queries of a block, and items of a chunk: their distances stay in the first-level cache.
BLOCK, CHUNK = 2 * GROUP, 1024
COUNTED, TALLIED = 32 * CHUNK, 128  # Items that are counted at a time, and from how many on by vectors.


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
        return _measure_words if database.dtype == types.uint64 else _measure_rows
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
            if width == 8:  # A constant makes a sequence of instructions without a loop.
                add_popcounts(words, 8, items, 0, 8, out, row_length, 0, False)
            elif distances.itemsize == 1:
                add_popcounts(words, width, items, 0, width, out, row_length, 0, False)
            else:
                write_popcounts(words, items, width, group, out, row_length)


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


def _measure_rows(queries, first, used, database, start, size, group, distances):
    width, vectors = database.shape[1], queries.shape[1] // 8
    row_length = distances.strides[0] // distances.itemsize
    # Vectors of long codes may reach into the next codes, but not beyond the database.
    done = size // ITEMS * ITEMS
    if width != 8 and width != 16 and width != 32 and width != 64:
        last = database.shape[0] - (VECTOR * vectors + width - 1) // width
        done = min(size, max(last + 1 - start, 0)) // ITEMS * ITEMS
    mask = pointer_to(queries, (queries.shape[0] - 1) * queries.shape[1])
    for a in range(used):
        query = pointer_to(queries, (first + a) * queries.shape[1])
        for j in range(0, done, ITEMS):
            items = pointer_to(database, (start + j) * width)
            out = pointer_to(distances, a * row_length + j)
            if width == 8:
                write_words_1(query, items, out)
            elif width == 16:
                write_words_2(query, items, out)
            elif width == 32:
                write_words_4(query, items, out)
            elif width == 64:
                write_words_8(query, items, out)
            else:
                write_long_codes(query, mask, items, width, vectors, out)
        for j in range(done, size):
            distance = np.uint64(0)
            for byte in range(width):
                asked = queries[first + a, byte >> 3] >> np.uint64(8 * (byte & 7)) & np.uint64(255)
                distance += popcount(asked ^ np.uint64(database[start + j, byte]))
            distances[a, j] = distance


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


def count(distances, narrow, counts):
    """Add the numbers of contiguous distances to counts (D + 8,), int64; works only in compiled code.

    Vectors read up to 63 distances beyond the last one. `narrow` is scratch, uint8, for 63 more than all distances.
    """
    raise NotImplementedError


@overload(count)
def _count(distances, narrow, counts):
    def count_each(distances, narrow, counts):
        for j in range(distances.size):
            counts[np.uint64(distances[j])] += 1

    if not SHUFFLES or distances.dtype.bitwidth > 16:
        return count_each
    is_wide = distances.dtype.bitwidth == 16

    def count_vectors(distances, narrow, counts):
        least, most = np.int64(0), np.int64(255)
        if distances.size >= TALLIED:
            lowest, highest = distances[0], distances[0]
            for j in range(distances.size):
                lowest, highest = min(lowest, distances[j]), max(highest, distances[j])
            least, most = np.int64(lowest), np.int64(highest)
        # The processor stores one count per cycle at most, so that up to 128 distances are sooner counted in vectors.
        if most - least >= 128:
            for j in range(distances.size):
                counts[np.uint64(distances[j])] += 1
            return
        values, base = pointer_to(distances, 0), np.int64(0)
        if is_wide:
            for j in range(distances.size):
                narrow[j] = distances[j] - least
            values, base = pointer_to(narrow, 0), least
        expected = distances.size + counts[most]
        for d in range(least, most):
            expected += counts[d]
        for d in range(least, most, 8):
            if not PERMUTES:
                tally(values, distances.size, d - base, pointer_to(counts, d))
            elif most - least < 64:
                tally_64(values, distances.size, d - base, pointer_to(counts, d))
            else:
                tally_128(values, distances.size, d - base, pointer_to(counts, d))
        # The items at the largest distance are the rest.
        for d in range(least, most):
            expected -= counts[d]
        counts[most] = expected

    return count_vectors


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
    entries, narrow = np.empty(BLOCK, np.int64), np.empty(COUNTED + LANES, np.uint8)
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
                count(row[:size], narrow, everywhere[a])
                count(row[low:high], narrow, inside[a])
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
    """Count all items, and those that share a label, at each distance.

    Labels are bit masks, uint64 (q, M) of the queries and (M, N) of the items, padded with zeros to whole tiles.
    """
    bins = total.shape[1]
    distances = np.empty((BLOCK, min(COUNTED, items) // LANES * LANES + 2 * LANES), scratch.dtype)
    kept, lengths = np.empty_like(distances), np.empty(BLOCK, np.int64)
    everywhere, inside = np.empty((BLOCK, bins + 7), np.int64), np.empty((BLOCK, bins + 7), np.int64)
    narrow = np.empty(COUNTED + LANES, np.uint8)
    for first in range(begin, end, BLOCK):
        used = min(BLOCK, end - first)
        everywhere[:], inside[:] = 0, 0
        for start in range(0, items, COUNTED):
            size = min(COUNTED, items - start)
            measure(queries, first, used, database, start, size, group, distances)
            lengths[:] = 0
            for place in range(0, size, LANES):
                for a in range(used):
                    sharing = np.uint64(0)
                    for word in range(masks.shape[0]):
                        mask = query_masks[first + a, word]
                        if mask:
                            sharing |= any_common(pointer_to(masks, word * masks.shape[1] + start + place), mask)
                    row = a * distances.shape[1]
                    out = pointer_to(kept, row + lengths[a])
                    lengths[a] += keep_marked(pointer_to(distances, row + place), sharing, out)
            for a in range(used):
                count(distances[a, :size], narrow, everywhere[a])
                count(kept[a, : lengths[a]], narrow, inside[a])
        for a in range(used):
            for d in range(bins):
                relevant[first + a, d] = inside[a, d]
                total[first + a, d] = everywhere[a, d]


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
