"""Ranking kernels for a GPU that count the distances of a tile of queries × items at once, in Triton.

A program reads each word of its items once for all queries of its tile, and counts one cell for each pair: the query's
place in the tile, the distance, and whether the item is relevant. Arguments are those of `triton_kernels`.
"""

# Triton compiles these functions from their source, where a parameter's annotation means a compile-time constant.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl

from deephash.ranking.triton_kernels import HAMMING, LABEL, LISTED, MANHATTAN, MASK, popcount


@triton.jit
def tile_cells(
    distances,
    rows,
    known,
    places,
    valid,
    start,
    query_labels,
    labels,
    label_width,
    RELEVANCE: tl.constexpr,
    BINS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Count the distances (ROWS, TILE) of a tile: int32 (CELLS,); cells of relevant items follow those of others."""
    cells = tl.arange(0, ROWS)[:, None] * BINS + distances
    if RELEVANCE == LABEL:
        query_label = tl.load(query_labels + rows, mask=known, other=0)
        label = tl.load(labels + start + places, mask=valid, other=0)
        cells += (query_label[:, None] == label[None, :]).to(tl.int32) * (ROWS * BINS)
    elif RELEVANCE == MASK:
        common = tl.zeros((ROWS, TILE), tl.int64)
        for column in range(label_width):
            wanted = tl.load(query_labels + rows * label_width + column, mask=known, other=0)
            held = tl.load(labels + (start + places) * label_width + column, mask=valid, other=0)
            common |= wanted[:, None] & held[None, :]
        cells += (common != 0).to(tl.int32) * (ROWS * BINS)
    counted = known[:, None] & valid[None, :]
    return tl.histogram(tl.reshape(cells, (ROWS * TILE,)), CELLS, mask=tl.reshape(counted, (ROWS * TILE,)))


@triton.jit
def add_cells(
    counts,
    total,
    relevant,
    first,
    n_queries,
    RELEVANCE: tl.constexpr,
    BINS: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Add the cells (CELLS,) of a program to the tables of its queries."""
    cells = tl.arange(0, CELLS)
    rows = first + cells // BINS % ROWS
    known = rows < n_queries
    places = rows * BINS + cells % BINS
    tl.atomic_add(total + places, counts, mask=known, sem="relaxed")
    if RELEVANCE != LISTED:
        tl.atomic_add(relevant + places, counts, mask=known & (cells >= ROWS * BINS), sem="relaxed")


@triton.jit
def tiled_kernel(
    queries,
    weights,
    database,
    query_labels,
    labels,
    total,
    relevant,
    n_queries,
    n_items,
    width,
    label_width,
    tiles,
    DISTANCE: tl.constexpr,
    RELEVANCE: tl.constexpr,
    BINS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Count the distances from ROWS queries over `tiles` tiles of the database, added to int32 tables (q, BINS)."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    part = tl.program_id(1).to(tl.int64)
    rows = first + tl.arange(0, ROWS)
    known = rows < n_queries
    counts = tl.zeros((CELLS,), tl.int32)
    for tile in range(tiles):
        # int64 once per tile, for large databases; int32 within the tile, which is faster.
        start = (part * tiles + tile) * TILE
        places = tl.arange(0, TILE)
        valid = places < n_items - start
        distances = tl.zeros((ROWS, TILE), tl.int32)
        column_start = database + start
        for column in range(width):
            query = tl.load(queries + rows * width + column, mask=known, other=0)[:, None]
            item = tl.load(column_start + places, mask=valid, other=0)[None, :]
            column_start += n_items
            if DISTANCE == HAMMING:
                distances += popcount((query ^ item).to(tl.uint32, bitcast=True))
            elif DISTANCE == MANHATTAN:
                distances += tl.abs(query.to(tl.int32) - item.to(tl.int32))
            else:
                weight = tl.load(weights + rows * width + column, mask=known, other=0)[:, None]
                distances += (query ^ item).to(tl.int32) * weight
        counts += tile_cells(
            distances,
            rows,
            known,
            places,
            valid,
            start,
            query_labels,
            labels,
            label_width,
            RELEVANCE,
            BINS,
            TILE,
            ROWS,
            CELLS,
        )
    add_cells(counts, total, relevant, first, n_queries, RELEVANCE, BINS, ROWS, CELLS)


@triton.jit
def tensor_kernel(
    queries,
    database,
    query_labels,
    labels,
    total,
    relevant,
    n_queries,
    n_items,
    width,
    bits,
    label_width,
    tiles,
    RELEVANCE: tl.constexpr,
    BINS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Count Hamming distances as `tiled_kernel` does, from products of signs on tensor cores: d = (bits - product) / 2.

    Queries (q, width) and the database (N, width) are int8, 1 or -1, and 0 beyond the bits of a code; `width` is a
    multiple of DEPTH, the number of signs that are multiplied at a time.
    """
    first = tl.program_id(0).to(tl.int64) * ROWS
    part = tl.program_id(1).to(tl.int64)
    rows = first + tl.arange(0, ROWS)
    known = rows < n_queries
    counts = tl.zeros((CELLS,), tl.int32)
    for tile in range(tiles):
        start = (part * tiles + tile) * TILE
        places = tl.arange(0, TILE)
        valid = places < n_items - start
        products = tl.zeros((ROWS, TILE), tl.int32)
        for bit in range(0, width, DEPTH):
            signs = bit + tl.arange(0, DEPTH)
            left = tl.load(queries + rows[:, None] * width + signs[None, :], mask=known[:, None], other=0)
            # Neighbouring bytes are of one item, as tensor cores read them.
            columns = (start + places).to(tl.int64) * width
            right = tl.load(database + columns[None, :] + signs[:, None], mask=valid[None, :], other=0)
            products += tl.dot(left, right, out_dtype=tl.int32)
        counts += tile_cells(
            (bits - products) >> 1,
            rows,
            known,
            places,
            valid,
            start,
            query_labels,
            labels,
            label_width,
            RELEVANCE,
            BINS,
            TILE,
            ROWS,
            CELLS,
        )
    add_cells(counts, total, relevant, first, n_queries, RELEVANCE, BINS, ROWS, CELLS)
