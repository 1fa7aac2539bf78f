"""The kernel for nearest items on the CPU, compiled by numba; see `numba_kernels` for its first arguments."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, disable-error-code="assignment, call-arg, attr-defined, var-annotated"

import numpy as np

from deephash.functional.compiled import compiled
from deephash.ranking.numba_kernels import BLOCK, CHUNK, count, measure
from deephash.ranking.numba_tallies import list_ones, nonzero
from deephash.ranking.numba_vectors import LANES, at_most, lowest_one, pointer_to


@compiled
def mark_near(near, used, size, limits, masks):
    """Set bit i of masks[a, t], uint64 (8, tiles), to whether distance 64 t + i of row a is below the row's limit."""
    full, rest = size // LANES, size % LANES
    for a in range(used):
        bound = limits[a] - 1
        if size == CHUNK:  # A constant number of tiles makes a loop without tests.
            for tile in range(CHUNK // LANES):
                masks[a, tile] = at_most(pointer_to(near, a * CHUNK + tile * LANES), bound)
        else:
            for tile in range(full):
                masks[a, tile] = at_most(pointer_to(near, a * CHUNK + tile * LANES), bound)
            for tile in range(full, CHUNK // LANES):
                masks[a, tile] = 0
            if rest:
                some = at_most(pointer_to(near, a * CHUNK + full * LANES), bound)
                masks[a, full] = some & ((np.uint64(1) << np.uint64(rest)) - np.uint64(1))


@compiled
def search_nearest(queries, database, items, group, scratch, bins, allowed, distances, ids, begin, end):
    """Find the k nearest items of each query in one pass and without a sort.

    A query takes the items nearer than its limit and counts their distances. After each chunk, the limit falls to the
    distance within which k items are, since a later item at that distance loses the tie. The first chunk's own counts
    give its limit. Finally the counts give the start of each distance in the result, and the taken items, in database
    order, are written to their places. `bins` is the number of possible distances, D + 1; `distances` and `ids`, int64
    (q, k), are filled. `allowed`, bool (items,), is false for an item that must not be found, and true for at least k
    items; if it is empty, all are allowed. Few items are nearer than the limit, and only these are looked up in it.
    """
    k, rows = distances.shape[1], min(BLOCK, end - begin)
    near, narrow = np.empty((BLOCK + 1, CHUNK), scratch.dtype), np.empty(CHUNK + LANES, np.uint8)
    # Two counts in turn, so that equal distances one after another do not wait for each other's count.
    counts, others = np.empty((rows, bins + 7), np.int64), np.empty((rows, bins + 7), np.int64)
    limits, within, lengths = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    masks, places = np.empty((BLOCK, CHUNK // LANES), np.uint64), np.empty(CHUNK + LANES, np.uint16)
    # Distance and id of each taken item. Few elements are used, and unused memory is not committed.
    taken = np.empty((rows, items + 1), np.int64)
    placed = np.empty(k + 1, np.int64)
    for first in range(begin, end, BLOCK):
        used = min(BLOCK, end - first)
        limits[:], within[:], lengths[:], counts[:], others[:] = bins, 0, 0, 0, 0
        for start in range(0, items, CHUNK):
            size = min(CHUNK, items - start)
            measure(queries, first, used, database, start, size, group, near)
            # Among the nearest items of the first chunk, this number contains k allowed ones.
            enough = k
            if start == 0 and len(allowed):
                for place in range(size):
                    enough += not allowed[place]
            if start == 0 and size > enough:
                for a in range(used):
                    count(near[a, :size], narrow, counts[a])
                    limit, reached = 0, 0
                    while reached < enough:
                        reached += counts[a, limit]
                        limit += 1
                    limits[a] = limit
                    for d in range(bins):
                        counts[a, d] = 0
            mark_near(near, used, size, limits, masks)
            for a in range(used):
                # Whether a tile has near items is random, so that a test of each tile would often be predicted wrongly.
                found, some = 0, nonzero(pointer_to(masks, a * (CHUNK // LANES)))
                if limits[a] == 0 or some == 0:
                    continue
                while some:
                    tile = np.int64(lowest_one(some))
                    some &= some - np.uint64(1)
                    found += list_ones(masks[a, tile], tile * LANES, pointer_to(places, found))
                if len(allowed):
                    listed, found = found, 0
                    for hit in range(listed):
                        place = places[hit]
                        places[found] = place
                        found += allowed[start + place]
                limit, length, inside = limits[a], lengths[a], within[a] + found
                for hit in range(0, found, 2):
                    place = np.int64(places[hit])
                    distance = np.int64(near[a, place])
                    taken[a, np.uint64(length + hit)] = distance << 40 | start + place
                    counts[a, np.uint64(distance)] += 1
                    if hit + 1 < found:
                        place = np.int64(places[hit + 1])
                        distance = np.int64(near[a, place])
                        taken[a, np.uint64(length + hit + 1)] = distance << 40 | start + place
                        others[a, np.uint64(distance)] += 1
                while inside >= k:
                    limit -= 1
                    inside -= counts[a, np.uint64(limit)] + others[a, np.uint64(limit)]
                limits[a], within[a], lengths[a] = limit, inside, length + found
        for a in range(used):
            # Compact without branches first, since the order of distances is random.
            limit, length, nearer = limits[a], 0, 0
            for entry in range(lengths[a]):
                taken[a, np.uint64(length)] = taken[a, entry]
                length += taken[a, entry] >> 40 <= limit
            for d in range(limit + 1):
                nearer, counts[a, d] = nearer + counts[a, d] + others[a, d], nearer
            for entry in range(length):
                distance = np.uint64(taken[a, entry] >> 40)
                placed[min(counts[a, distance], k)] = taken[a, entry]
                counts[a, distance] += 1
            for place in range(k):
                distances[first + a, place] = placed[place] >> 40
                ids[first + a, place] = placed[place] & ((1 << 40) - 1)
