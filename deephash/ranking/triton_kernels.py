"""Ranking kernels for a GPU, in Triton: distance histograms with relevance computed in the kernel, and nearest items.

Queries (q, WIDTH) and the database (WIDTH, N) are int32 words of packed codes (Hamming), uint8 levels (Manhattan), or
bits as uint8, weighted by the query (asymmetric). The database is transposed, so that neighbouring threads read
neighbouring words. With TRITON_INTERPRET=1, set before this module is imported, the kernels run on tensors of the CPU.
"""

# Triton compiles these functions from their source, where a parameter's annotation means a compile-time constant.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, allow-incomplete-defs

import inspect

import triton
import triton.language as tl

# Cost of a pair: differing bits, difference of levels, weights of differing bits.
HAMMING = tl.constexpr(0)
MANHATTAN = tl.constexpr(1)
ASYMMETRIC = tl.constexpr(2)
# Condition of relevance: none here (neighbours are counted separately), the same class, a common label.
LISTED = tl.constexpr(0)
LABEL = tl.constexpr(1)
MASK = tl.constexpr(2)


@triton.jit
def popcount(word):
    """Count the ones in a uint32 by shifts and additions, which the interpreter can run, and which compile to popc."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    word = word + (word >> 8)
    word = word + (word >> 16)
    return (word & 0x3F).to(tl.int32)


@triton.jit
def pair_distances(queries, weights, database, rows, items, valid, n_items, width, DISTANCE: tl.constexpr):
    """Compute the distances (p,) of items, numbered from the pointer `database`, to one query or to one query each."""
    distances = tl.zeros_like(items).to(tl.int32)
    column_start = database
    for column in range(width):
        query = tl.load(queries + rows * width + column)
        item = tl.load(column_start + items, mask=valid, other=0)
        column_start += n_items
        if DISTANCE == HAMMING:
            distances += popcount((query ^ item).to(tl.uint32, bitcast=True))
        elif DISTANCE == MANHATTAN:
            distances += tl.abs(query.to(tl.int32) - item.to(tl.int32))
        else:
            distances += (query ^ item).to(tl.int32) * tl.load(weights + rows * width + column)
    return distances


# The Triton of old versions of PyTorch counts no histogram under a mask.
COUNTS_UNDER_MASK = "mask" in inspect.signature(tl.histogram).parameters


@triton.jit
def histogram_kernel(
    queries,
    weights,
    database,
    query_labels,
    labels,
    total,
    relevant,
    n_items,
    width,
    label_width,
    tiles,
    DISTANCE: tl.constexpr,
    RELEVANCE: tl.constexpr,
    BINS: tl.constexpr,
    TILE: tl.constexpr,
    SHARED: tl.constexpr,
):
    """Count the distances from one query over `tiles` tiles of the database, added to int32 tables (q, BINS).

    With SHARED, a tile is counted in shared memory by tl.histogram and the sums stay in registers. Larger tables are
    counted in global memory, with one atomic addition per pair.
    """
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    bins = tl.arange(0, BINS)
    all_counts = tl.zeros((BINS,), dtype=tl.int32)
    relevant_counts = tl.zeros((BINS,), dtype=tl.int32)
    for tile in range(tiles):
        # int64 once per tile, for large databases; int32 within the tile, which is faster.
        start = (part * tiles + tile) * TILE
        places = tl.arange(0, TILE)
        valid = places < n_items - start
        distances = pair_distances(queries, weights, database + start, row, places, valid, n_items, width, DISTANCE)
        hits = valid
        if RELEVANCE == LABEL:
            hits = valid & (tl.load(labels + start + places, mask=valid, other=-1) == tl.load(query_labels + row))
        elif RELEVANCE == MASK:
            common = tl.zeros((TILE,), dtype=tl.int64)
            for column in range(label_width):
                mask = tl.load(labels + (start + places) * label_width + column, mask=valid, other=0)
                common |= mask & tl.load(query_labels + row * label_width + column)
            hits = valid & (common != 0)
        if SHARED:
            all_counts += tl.histogram(distances, BINS, mask=valid)
            if RELEVANCE != LISTED:
                relevant_counts += tl.histogram(distances, BINS, mask=hits)
        else:
            tl.atomic_add(total + row * BINS + distances, 1, mask=valid)
            if RELEVANCE != LISTED:
                tl.atomic_add(relevant + row * BINS + distances, 1, mask=hits)
    if SHARED:
        tl.atomic_add(total + row * BINS + bins, all_counts)
        if RELEVANCE != LISTED:
            tl.atomic_add(relevant + row * BINS + bins, relevant_counts)


@triton.jit
def listed_kernel(
    queries,
    weights,
    database,
    rows,
    ids,
    relevant,
    n_pairs,
    n_items,
    width,
    DISTANCE: tl.constexpr,
    BINS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Count the distances of listed pairs, item ids[p] of query rows[p], added to an int32 table (q, BINS)."""
    pairs = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    valid = pairs < n_pairs
    row = tl.load(rows + pairs, mask=valid, other=0)
    items = tl.load(ids + pairs, mask=valid, other=0)
    distances = pair_distances(queries, weights, database, row, items, valid, n_items, width, DISTANCE)
    tl.atomic_add(relevant + row * BINS + distances, 1, mask=valid)


@triton.jit
def collect_kernel(
    queries,
    weights,
    database,
    limits,
    filled,
    keys,
    n_items,
    width,
    capacity,
    tiles,
    DISTANCE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Collect the items of one query within its distance limits[row] as keys, distance * n_items + item.

    They go to the next free places of keys (q, capacity), int64, in no order. filled (q,) counts all of them, and those
    beyond the capacity are not stored. A program covers `tiles` tiles of the database.
    """
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    limit = tl.load(limits + row)
    for tile in range(tiles):
        # int64 once per tile, for large databases; int32 within the tile, which is faster.
        start = (part * tiles + tile) * TILE
        places = tl.arange(0, TILE)
        valid = places < n_items - start
        distances = pair_distances(queries, weights, database + start, row, places, valid, n_items, width, DISTANCE)
        near = valid & (distances <= limit)
        free = tl.atomic_add(filled + row + tl.zeros_like(places), 1, mask=near)
        stored = near & (free < capacity)
        tl.store(keys + row * capacity + free, distances.to(tl.int64) * n_items + start + places, mask=stored)


@triton.jit
def nearest_kernel(
    queries,
    weights,
    database,
    keys,
    n_items,
    width,
    k,
    tiles,
    DISTANCE: tl.constexpr,
    BINS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Find the k nearest items of one query: their keys, distance * n_items + item, int64 (q, k), in no order.

    One program counts the distances of a query, which gives the distance of its k-th neighbour, and collects the nearer
    items and the first ones of those at this distance. So exactly k places are filled.
    """
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, TILE)
    bins = tl.arange(0, BINS)
    counts = tl.zeros((BINS,), dtype=tl.int32)
    for tile in range(tiles):
        start = tile * TILE
        valid = places < n_items - start
        distances = pair_distances(queries, weights, database + start, row, places, valid, n_items, width, DISTANCE)
        counts += tl.histogram(distances, BINS, mask=valid)
    limit = tl.sum((tl.cumsum(counts, 0) < k).to(tl.int32), 0)
    near_count = tl.zeros((), dtype=tl.int32)
    tied_count = tl.sum(tl.where(bins < limit, counts, 0), 0)
    for tile in range(tiles):
        start = tile * TILE
        valid = places < n_items - start
        distances = pair_distances(queries, weights, database + start, row, places, valid, n_items, width, DISTANCE)
        near, tied = valid & (distances < limit), valid & (distances == limit)
        # One running sum of two counts: a tile has fewer than 2^15 items.
        sums = tl.cumsum(near.to(tl.int32) + (tied.to(tl.int32) << 16), 0)
        place = tl.where(near, near_count + (sums & 0xFFFF), tied_count + (sums >> 16)) - 1
        stored = near | (tied & (place < k))
        tl.store(keys + row * k + place, distances.to(tl.int64) * n_items + start + places, mask=stored)
        near_count += tl.sum(near.to(tl.int32), 0)
        tied_count += tl.sum(tied.to(tl.int32), 0)
