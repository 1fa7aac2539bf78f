"""Kernels of multi-index hashing for the CPU, compiled by numba.

Codes are rows of uint64 words. The table of a substring is the database sorted by the value of that substring. Items
with the same value form a bucket, which is contiguous in memory. The table consists of the sorted codes, their ids, and
the buckets, int32 (values + 1, 2): the start of each bucket, and the head of its list of later items or -1. Start and
head are together, so that a search waits for the memory once.

Items that are added later are in lists of chunks beside the tables: a bucket may have a list, whose chunks double in
size, so that a search reads most of a long list in sequence. The rows of `pool`, W + 1 words, are the heads of chunks
and their items: a code and its id. A head is the number of items, with the size of the chunk above bit 32, and the row
of the next chunk plus 1. The head and the tail of a bucket's list are the rows of its first and last chunk. A search
reads the list of a bucket after the bucket itself.

An item may share a bucket with the query in several tables. It only counts in the first one. The distances of its
substrings show which table that is, so no list of visited items is needed.

All compiled functions that may change are in this file, because numba's disk cache only watches the file of the kernel
itself. The variables that a kernel closes over are part of its cache key. They must be numbers, since a compiled
function would give a different key in each process.
"""

# numba infers the types of compiled functions, and does not accept annotations on some.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs, disable-error-code="call-arg, attr-defined, arg-type"

from functools import cache

import numpy as np

from deephash.functional.compiled import Kernel, compiled
from deephash.ranking.numba_vectors import popcount

# Costs of visiting a bucket and of reading a code in it; the unit is the cost of a code in a linear scan. Most of both
# is memory latency.
BUCKET_COST, CANDIDATE_COST = 100, 5
# Ids are below this number.
MAX_IDS = np.int64(1 << 31)
# Maximum number of items of a chunk, and the bits of their number.
MAX_CHUNK, LOW = 64, np.uint64((1 << 32) - 1)


@compiled
def substring(words, start, length):
    """Return bits start to start + length of a code as a number; length is below 64."""
    first, shift = start // 64, np.uint64(start % 64)
    value = words[first] >> shift
    if start % 64 + length > 64:
        value |= words[first + 1] << (np.uint64(64) - shift)
    return value & ((np.uint64(1) << np.uint64(length)) - np.uint64(1))


@compiled
def next_mask(mask):
    """Return the next larger number with the same number of ones (Gosper)."""
    lowest = mask & (~mask + np.uint64(1))
    ripple = mask + lowest
    # The textbook form divides; a shift by the position of the lowest one, plus two, does the same.
    places = popcount(lowest - np.uint64(1)) + np.uint64(2)
    return ripple | ((mask ^ ripple) >> places)


@cache
def substring_kernel() -> Kernel:
    """Return a kernel that reads one substring of each code: (codes (n, W), start, length, out int64 (n,))."""

    def values(codes, start, length, out):
        for item in range(len(codes)):
            out[item] = np.int64(substring(codes[item], start, length))

    return compiled(values)


@cache
def sort_kernel() -> Kernel:
    """Return a kernel that sorts codes by the value of a substring, stably.

    The kernel fills `buckets`, int32 (2^length + 1, 2), with the start of each value's bucket and no list, and `laid`
    and `ids` with the sorted codes and their ids.
    """

    def sort(codes, values, buckets, laid, ids):
        for value in range(len(buckets)):
            buckets[value, 0], buckets[value, 1] = 0, -1
        for item in range(len(values)):
            buckets[values[item] + 1, 0] += 1
        for value in range(len(buckets) - 1):
            buckets[value + 1, 0] += buckets[value, 0]
        for item in range(len(values)):
            place = buckets[values[item], 0]
            buckets[values[item], 0] += 1
            ids[place] = item
            for word in range(codes.shape[1]):
                laid[place, word] = codes[item, word]
        # Each start has moved to the end of its bucket, which is the start of the next one.
        for value in range(len(buckets) - 1, 0, -1):
            buckets[value, 0] = buckets[value - 1, 0]
        buckets[0, 0] = 0

    return compiled(sort)


@cache
def append_kernel() -> Kernel:
    """Return a kernel that appends codes to the lists of their buckets.

    The kernel appends the codes (n, W) from row `begin` on, with ids from `first` on, in chunks from row `used` of the
    pool on. `buckets` are those of all tables, and `tails`, int32, the tails of their lists, -1 for an empty list. It
    returns the row of the first code for which the pool may be too small, or n, and the number of used rows of the
    pool.
    """

    def append(codes, begin, first, firsts, lengths, table_starts, buckets, tails, pool, used):
        width = codes.shape[1]
        for row in range(begin, len(codes)):
            if used + len(firsts) * (MAX_CHUNK + 1) > len(pool):
                return row, used
            for table in range(len(firsts)):
                bucket = table_starts[table] + np.int64(substring(codes[row], firsts[table], lengths[table]))
                chunk = np.int64(tails[bucket])
                size, count = np.int64(0), np.int64(0)
                if chunk >= 0:
                    size, count = np.int64(pool[chunk, 0] >> np.uint64(32)), np.int64(pool[chunk, 0] & LOW)
                if count == size:
                    if chunk < 0:
                        buckets[bucket, 1] = used
                    else:
                        pool[chunk, 1] = np.uint64(used + 1)
                    chunk, count, size = used, np.int64(0), min(max(2 * size, 1), MAX_CHUNK)
                    tails[bucket] = chunk
                    pool[chunk, 1] = 0
                    used += size + 1
                place = chunk + 1 + count
                for word in range(width):
                    pool[place, word] = codes[row, word]
                pool[place, width] = np.uint64(first + row)
                pool[chunk, 0] = (np.uint64(size) << np.uint64(32)) | np.uint64(count + 1)
        return len(codes), used

    return compiled(append)


@compiled
def is_met(codes, place, query_values, firsts, lengths, table, radius):
    """Return whether an item was met before: another substring is nearer, or equally near in an earlier table."""
    met = False
    for other in range(len(firsts)):
        if other != table:
            gap = np.int64(popcount(substring(codes[place], firsts[other], lengths[other]) ^ query_values[other]))
            met = met or gap < radius or (gap == radius and other < table)
    return met


@compiled
def keep(distance, item, near, near_ids, counts, kept, bound, within, k):
    """Keep an item within the bound, and lower the bound to the least distance within which k items are kept.

    A full array drops the items beyond the bound; if more than half remain, it doubles in size.
    """
    if kept == len(near):
        left = 0
        for entry in range(kept):
            if near[entry] <= bound:
                near[left], near_ids[left] = near[entry], near_ids[entry]
                left += 1
        kept = left
        if 2 * kept > len(near):
            more, more_ids = np.empty(2 * len(near), np.int64), np.empty(2 * len(near), np.int64)
            more[:kept], more_ids[:kept] = near[:kept], near_ids[:kept]
            near, near_ids = more, more_ids
    near[kept], near_ids[kept] = distance, item
    counts[distance] += 1
    within += 1
    while within - counts[bound] >= k:
        within -= counts[bound]
        bound -= 1
    return near, near_ids, kept + 1, bound, within


@compiled
def choose(length, radius):
    """Return the binomial coefficient: the number of values of `length` bits that differ from one value in `radius`."""
    count = 1
    for place in range(radius):
        count = count * (length - place) // (place + 1)
    return count


@compiled
def apart(query, codes, place, words):
    """Return the Hamming distance of a query and a code; without a loop if the constant `words` is 1."""
    if words == 1:
        return np.int64(popcount(codes[place, 0] ^ query[0]))
    total = np.int64(0)
    for word in range(words):
        total += np.int64(popcount(codes[place, word] ^ query[word]))
    return total


@cache
def nearest_kernel(words: int) -> Kernel:
    """Return a kernel that finds the k nearest codes of each query, exactly, with ties ordered by id.

    The kernel answers `queries` (q, W) from `begin` to `end`. `arrays` are the sorted codes `laid` (m, n, W) and the
    `ids` int32 (m, n) of each table; the `buckets` of all tables, and `table_starts` (m,), the place of each table in
    them; `firsts` (m,) and `lengths` (m,), the first bits and lengths of the substrings; and the `pool` of the lists of
    later codes. `allowed`, bool, of all items, is false for an item that must not be found; if it is empty, all are
    allowed.
    `most_work` is the maximal work of a query; its unit is the cost of a code in a linear scan. The kernel fills
    `distances` (q, k), `found` (q, k) with the ids, and `looked` (q, 2) with the numbers of visited buckets and codes.
    Integers are int64 unless noted.

    Let a search visit all buckets within distance ρ of the query in tables 0 to j, and within ρ - 1 in the others. It
    has then found every code within distance mρ + j (Norouzi, Punjani & Fleet, CVPR 2012, Section 3.1). A query far
    from all codes would visit more buckets than there are items. The search of a query therefore stops before a step
    that would exceed the maximal work, and sets the query's first id to -1.
    """

    def search(queries, arrays, allowed, k, most_work, distances, found, looked, begin, end):
        laid, ids, buckets, table_starts, firsts, lengths, pool = arrays
        tables, _, width = laid.shape
        counts = np.empty(64 * width + 1, np.int64)
        query_values = np.empty(tables, np.uint64)
        near, near_ids = np.empty(4 * k + 1024, np.int64), np.empty(4 * k + 1024, np.int64)
        for row in range(begin, end):
            query = queries[row]
            counts[:] = 0
            kept, bound, within, seen, visited = 0, 64 * width, 0, 0, 0
            for table in range(tables):
                query_values[table] = substring(query, firsts[table], lengths[table])
            # Steps visit the tables radius by radius. After step s = m · radius + table, all codes within distance s
            # are found.
            step = 0
            while bound >= step or within < k:
                table, radius = step % tables, step // tables
                planned = visited + choose(lengths[table], radius)
                if planned * BUCKET_COST + seen * CANDIDATE_COST > most_work:
                    break
                codes, of = laid[table], ids[table]
                if radius <= lengths[table]:
                    mask = (np.uint64(1) << np.uint64(radius)) - np.uint64(1)
                    last = np.uint64(1) << np.uint64(lengths[table])
                    while mask < last:
                        visited += 1
                        bucket = table_starts[table] + np.int64(query_values[table] ^ mask)
                        for place in range(np.int64(buckets[bucket, 0]), np.int64(buckets[bucket + 1, 0])):
                            seen += 1
                            distance = apart(query, codes, place, words)
                            if distance > bound:
                                continue
                            if step == 0 and within >= k and bound == 0:
                                # All copies of the query are in this bucket, ordered by id.
                                break
                            item = of[place]
                            if len(allowed) and not allowed[item]:
                                continue
                            if not is_met(codes, place, query_values, firsts, lengths, table, radius):
                                near, near_ids, kept, bound, within = keep(
                                    distance, item, near, near_ids, counts, kept, bound, within, k
                                )
                        chunk = np.int64(buckets[bucket, 1])
                        while chunk >= 0:
                            for place in range(chunk + 1, chunk + 1 + np.int64(pool[chunk, 0] & LOW)):
                                seen += 1
                                distance = apart(query, pool, place, words)
                                if distance > bound or (step == 0 and within >= k and bound == 0):
                                    continue
                                item = np.int64(pool[place, width])
                                if len(allowed) and not allowed[item]:
                                    continue
                                if not is_met(pool, place, query_values, firsts, lengths, table, radius):
                                    near, near_ids, kept, bound, within = keep(
                                        distance, item, near, near_ids, counts, kept, bound, within, k
                                    )
                            chunk = np.int64(pool[chunk, 1]) - 1
                        if mask == 0:
                            break
                        mask = next_mask(mask)
                step += 1
            looked[row, 0], looked[row, 1] = visited, seen
            if bound >= step or within < k:
                found[row, 0] = -1
                continue
            left = 0
            for entry in range(kept):
                if near[entry] <= bound:
                    near[left], near_ids[left] = near[entry], near_ids[entry]
                    left += 1
            order = np.argsort(near[:left] * MAX_IDS + near_ids[:left])
            for rank in range(k):
                distances[row, rank] = near[order[rank]]
                found[row, rank] = near_ids[order[rank]]

    return compiled(search)


@cache
def radius_kernel(words: int) -> Kernel:
    """Return a kernel that finds the codes within a radius of each query, exactly, in the order of the buckets.

    Arguments are as for `nearest_kernel`, except the outputs. The kernel fills `counts`, int64 (q,), with the number of
    codes found for each query. If `fill` is true, it also writes their distances and ids to `distances` and `found`,
    both int64 and flat. The results of query i begin at offsets[i], with `offsets` int64 (q + 1,).

    Codes within r differ from the query by at most ⌊r/m⌋ in one of the first r mod m + 1 substrings, or by at most
    ⌊r/m⌋ - 1 in one of the others (Section 3.1).
    """

    def search(queries, arrays, radius, counts, offsets, distances, found, fill, begin, end):
        laid, ids, buckets, table_starts, firsts, lengths, pool = arrays
        tables, _, width = laid.shape
        query_values = np.empty(tables, np.uint64)
        for row in range(begin, end):
            query = queries[row]
            for table in range(tables):
                query_values[table] = substring(query, firsts[table], lengths[table])
            total = 0
            for step in range(radius + 1):
                table, near = step % tables, step // tables
                codes, of = laid[table], ids[table]
                if near > lengths[table]:
                    continue
                mask = (np.uint64(1) << np.uint64(near)) - np.uint64(1)
                last = np.uint64(1) << np.uint64(lengths[table])
                while mask < last:
                    bucket = table_starts[table] + np.int64(query_values[table] ^ mask)
                    for place in range(np.int64(buckets[bucket, 0]), np.int64(buckets[bucket + 1, 0])):
                        distance = apart(query, codes, place, words)
                        if distance > radius:
                            continue
                        if not is_met(codes, place, query_values, firsts, lengths, table, near):
                            if fill:
                                distances[offsets[row] + total] = distance
                                found[offsets[row] + total] = of[place]
                            total += 1
                    chunk = np.int64(buckets[bucket, 1])
                    while chunk >= 0:
                        for place in range(chunk + 1, chunk + 1 + np.int64(pool[chunk, 0] & LOW)):
                            distance = apart(query, pool, place, words)
                            if distance <= radius and not is_met(
                                pool, place, query_values, firsts, lengths, table, near
                            ):
                                if fill:
                                    distances[offsets[row] + total] = distance
                                    found[offsets[row] + total] = np.int64(pool[place, width])
                                total += 1
                        chunk = np.int64(pool[chunk, 1]) - 1
                    if mask == 0:
                        break
                    mask = next_mask(mask)
            counts[row] = total

    return compiled(search)
