"""Ranking kernels for the CPU, compiled by numba: blocks of 8 queries, tables on the stack, specialised by code width.

A kernel is serial code over a range of queries that releases the GIL; the engine runs it in its own threads. Queries
and database share a layout, (n, width), whose dtype determines the cost of a pair (see `cost`): uint64 words are
compared by popcount (Hamming), uint8 levels by absolute difference (Manhattan), and an int32 row of a query contains a
table of 256 costs for each database byte (asymmetric).

A block of fewer than 8 queries repeats its last one, so that no distance exceeds the tables. All compiled functions are
in this file, because numba's disk cache watches only the file of the function itself.
"""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs, disable-error-code="call-arg, attr-defined"

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from deephash.functional.compiled import Kernel, compiled

# 8 queries share each load of a database item, and their words stay in registers.
BLOCK = 8
# Words of the widest codes with specialised kernels: their tables, at most 128 KiB, fit on the stack of any thread.
WIDEST = 16


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Count the ones in a uint64 with one machine instruction."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic(prefer_literal=True)
def stack(typing_context, dtype, size):
    """Allocate `size` elements on the stack; LLVM can prove that they do not alias, and keep them in registers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return cgutils.alloca_once(builder, context.get_data_type(dtype.dtype), size=size.literal_value)

    return types.CPointer(dtype.dtype)(dtype, size), generate


def cost(queries, row, column, item):
    """Return the part of an item's distance that is due to one word, level or byte; works only in compiled code."""
    raise NotImplementedError


@overload(cost)
def _cost(queries, row, column, item):
    if queries.dtype == types.uint64:
        return lambda queries, row, column, item: np.int64(popcount(queries[row, column] ^ item))
    if queries.dtype == types.uint8:
        return lambda queries, row, column, item: np.int64(abs(np.int32(queries[row, column]) - np.int32(item)))
    return lambda queries, row, column, item: np.int64(queries[row, column * 256 + np.int64(item)])


@cache
def segment_kernel(words: int) -> Kernel:
    """Build the kernel that counts all items, and those in each query's segment of a database sorted by class.

    Relevance costs nothing: a query's table is copied where the segment of its class starts and subtracted where it
    ends.

    Args:
        words: number of 64-bit words per code; 0 for any layout.
    """
    rows = BLOCK if words else 1
    table, table_size, block_size = 64 * words + 1, rows * (64 * words + 1), rows * max(words, 1)

    def count(queries, database, order, segments, bins, total, relevant, begin, end):
        if words:
            bins, width = table, words
            tables = carray(stack(np.int32, table_size), (rows, table))
            block = carray(stack(queries.dtype, block_size), (rows, words))
        else:
            width = database.shape[1]
            tables = np.empty((rows, bins), np.int32)
            block = np.empty((rows, queries.shape[1]), queries.dtype)
        edges = np.empty(2 * rows + 1, np.int64)
        heads = np.empty(rows + 1, np.int64)
        distances = total.shape[1]
        for first in range(begin, end, rows):
            used = min(rows, end - first)
            for a in range(rows):
                for d in range(tables.shape[1]):
                    tables[a, d] = 0
            for a in range(rows):
                for w in range(block.shape[1]):
                    block[a, w] = queries[order[first + min(a, used - 1)], w]
            groups = 0
            for a in range(used):
                row = first + a
                if a == 0 or segments[row, 0] != segments[row - 1, 0] or segments[row, 1] != segments[row - 1, 1]:
                    edges[2 * groups] = segments[row, 0]
                    edges[2 * groups + 1] = segments[row, 1]
                    heads[groups] = a
                    groups += 1
            heads[groups] = used
            edges[2 * groups] = database.shape[0]
            position = 0
            for edge in range(2 * groups + 1):
                # A slice starts at 0, which saves the loop a check for negative indices.
                part = database[position : edges[edge]]
                for j in range(part.shape[0]):
                    for a in range(rows):
                        distance = np.int64(0)
                        for w in range(width):
                            distance += cost(block, a, w, part[j, w])
                        tables[a, np.uint64(distance)] += 1
                position = edges[edge]
                if edge < 2 * groups:
                    for a in range(heads[edge // 2], heads[edge // 2 + 1]):
                        row = order[first + a]
                        for d in range(distances):
                            relevant[row, d] = tables[a, d] - (relevant[row, d] if edge % 2 else 0)
            for a in range(used):
                row = order[first + a]
                for d in range(distances):
                    total[row, d] = tables[a, d]

    return compiled(count)


@cache
def mask_kernel(words: int, mask_words: int) -> Kernel:
    """Build the kernel that counts all items, and those that share a label, by the bit masks of their labels.

    A relevant item is counted `bins` places further in its query's table, so a pair always costs one increment.

    Args:
        words: number of 64-bit words per code; 0 for any layout.
        mask_words: number of 64-bit words per mask; 0 for any number.
    """
    rows = BLOCK if words else 1
    table, table_size, block_size = 64 * words + 1, 2 * rows * (64 * words + 1), rows * max(words, 1)
    labels_size = rows * max(mask_words, 1)

    def count(queries, database, query_masks, masks, bins, total, relevant, begin, end):
        if words:
            bins, width = table, words
            tables = carray(stack(np.int32, table_size), (rows, 2 * table))
            block = carray(stack(queries.dtype, block_size), (rows, words))
        else:
            width = database.shape[1]
            tables = np.empty((rows, 2 * bins), np.int32)
            block = np.empty((rows, queries.shape[1]), queries.dtype)
        if mask_words:
            mask_width = mask_words
            labels = carray(stack(np.uint64, labels_size), (rows, mask_words))
        else:
            mask_width = masks.shape[1]
            labels = np.empty((rows, masks.shape[1]), np.uint64)
        for first in range(begin, end, rows):
            used = min(rows, end - first)
            for a in range(rows):
                for d in range(tables.shape[1]):
                    tables[a, d] = 0
            for a in range(rows):
                row = first + min(a, used - 1)
                for w in range(block.shape[1]):
                    block[a, w] = queries[row, w]
                for w in range(labels.shape[1]):
                    labels[a, w] = query_masks[row, w]
            for j in range(database.shape[0]):
                for a in range(rows):
                    distance = np.int64(0)
                    for w in range(width):
                        distance += cost(block, a, w, database[j, w])
                    shared = np.uint64(0)
                    for m in range(mask_width):
                        shared |= labels[a, m] & masks[j, m]
                    tables[a, np.uint64(distance + bins * (shared != 0))] += 1
            for a in range(used):
                for d in range(total.shape[1]):
                    relevant[first + a, d] = tables[a, bins + d]
                    total[first + a, d] = tables[a, d] + tables[a, bins + d]

    return compiled(count)


@cache
def search_kernel(words: int, rows: int) -> Kernel:
    """Build the kernel that finds the k nearest items in one pass and without a sort.

    A query collects items nearer than its limit and counts their distances. Once k items are within a distance, that
    distance becomes the limit, since a later item at the same distance loses the tie. Finally the counts give the start
    of each distance in the result, and the taken items, in database order, are written to their places.

    Args:
        words: number of 64-bit words per code; 0 for any layout.
        rows: queries in a pass over the database, BLOCK or 1; must be 1 if words is 0.
    """
    table, table_size, block_size = 64 * words + 1, rows * (64 * words + 1), rows * max(words, 1)

    def search(queries, database, bins, distances, ids, begin, end):
        if words:
            bins, width = table, words
            tables = carray(stack(np.int32, table_size), (rows, table))
            block = carray(stack(queries.dtype, block_size), (rows, words))
        else:
            width = database.shape[1]
            tables = np.empty((rows, bins), np.int32)
            block = np.empty((rows, queries.shape[1]), queries.dtype)
        limits = carray(stack(np.int64, rows), (rows,))
        within = carray(stack(np.int64, rows), (rows,))
        lengths = carray(stack(np.int64, rows), (rows,))
        # Few elements are used, and unused memory is not committed.
        taken = np.empty((rows, database.shape[0]), np.int64)
        k = distances.shape[1]
        for first in range(begin, end, rows):
            used = min(rows, end - first)
            for a in range(rows):
                for d in range(bins):
                    tables[a, d] = 0
                for w in range(block.shape[1]):
                    block[a, w] = queries[first + min(a, used - 1), w]
                limits[a], within[a], lengths[a] = bins, 0, 0
            for j in range(database.shape[0]):
                sign = np.int64(0)
                for a in range(rows):
                    distance = np.int64(0)
                    for w in range(width):
                        distance += cost(block, a, w, database[j, w])
                    sign |= distance - limits[a]
                if sign < 0:  # One branch per item: at least one query takes it.
                    for a in range(rows):
                        distance = np.int64(0)
                        for w in range(width):
                            distance += cost(block, a, w, database[j, w])
                        if distance < limits[a]:
                            taken[a, lengths[a]] = j
                            lengths[a] += 1
                            tables[a, np.uint64(distance)] += 1
                            within[a] += 1
                            while within[a] >= k:
                                limits[a] -= 1
                                within[a] -= tables[a, np.uint64(limits[a])]
            for a in range(used):
                nearer = 0
                for d in range(limits[a] + 1):
                    items = tables[a, d]
                    tables[a, d] = nearer
                    for place in range(nearer, min(k, nearer + items)):
                        distances[first + a, place] = d
                    nearer += items
                for entry in range(lengths[a]):
                    distance = np.int64(0)
                    for w in range(width):
                        distance += cost(block, a, w, database[taken[a, entry], w])
                    if distance <= limits[a]:
                        place = tables[a, np.uint64(distance)]
                        tables[a, np.uint64(distance)] = place + 1
                        if place < k:
                            ids[first + a, place] = taken[a, entry]

    return compiled(search)


def _count_listed(queries, database, starts, stops, ids, relevant, begin, end):
    """Count the distances to each query's listed items, ids[starts[i] : stops[i]]."""
    for i in range(begin, end):
        for entry in range(starts[i], stops[i]):
            distance = np.int64(0)
            for w in range(database.shape[1]):
                distance += cost(queries, i, w, database[ids[entry], w])
            relevant[i, distance] += 1


def _rank_listed(queries, database, starts, stops, ids, bins, offsets, ranks, begin, end):
    """Compute the ranks of each query's listed items in the stable order, without a sort.

    Histograms give the first rank at each distance; a pass over the items in database order then meets them in the
    order of their ranks within a distance. `nearer` and `listed_nearer` contain, for each distance, the next rank of an
    item and the next place of a listed item's rank.
    """
    distances = np.empty(database.shape[0], np.int32)
    for i in range(begin, end):
        nearer = np.zeros(bins + 1, np.int64)
        listed_nearer = np.zeros(bins + 1, np.int64)
        for j in range(database.shape[0]):
            distance = np.int64(0)
            for w in range(database.shape[1]):
                distance += cost(queries, i, w, database[j, w])
            distances[j] = distance
            nearer[distance + 1] += 1
        for entry in range(starts[i], stops[i]):
            listed_nearer[distances[ids[entry]] + 1] += 1
        listed_nearer[0] = offsets[i]
        for d in range(bins):
            nearer[d + 1] += nearer[d]
            listed_nearer[d + 1] += listed_nearer[d]
        entry = starts[i]
        for j in range(database.shape[0]):
            d = distances[j]
            if entry < stops[i] and ids[entry] == j:
                ranks[listed_nearer[d]] = nearer[d]
                listed_nearer[d] += 1
                entry += 1
            nearer[d] += 1


@cache
def listed_count_kernel() -> Kernel:
    """Compile `_count_listed`."""
    return compiled(_count_listed)


@cache
def listed_rank_kernel() -> Kernel:
    """Compile `_rank_listed`."""
    return compiled(_rank_listed)
