"""Lists of neighbours: nearest items, and items within a radius, by distance and then by id."""

from dataclasses import dataclass

import torch
from torch import Tensor

NOT_FOUND = -1
"""Id of a neighbour that an approximate index did not find."""


@dataclass(frozen=True)
class WithinRadius:
    """Items within a radius of each of q queries, concatenated.

    Args:
        offsets: int64 (q + 1,); the items of query i are at offsets[i] to offsets[i + 1].
        distances: int64 (offsets[q],), ascending within a query.
        ids: int64 (offsets[q],), rows of the database; among equal distances, ascending.
    """

    offsets: Tensor
    distances: Tensor
    ids: Tensor


def sort_nearest(distances: Tensor, ids: Tensor, farthest: int) -> tuple[Tensor, Tensor]:
    """Sort an engine's neighbours by distance, then by id; neighbours with an id below 0 go to the end.

    Args:
        distances: (q, k) of any dtype that holds whole numbers, in any order.
        ids: (q, k).
        farthest: distance of neighbours that were not found, b + 1.

    Returns:
        Distances and ids, int64 (q, k).
    """
    ids = ids.to(torch.int64)
    missing = ids < 0
    distances = distances.masked_fill(missing, 0).to(torch.int64).masked_fill(missing, farthest)
    order = ids.argsort(dim=1, stable=True)
    order = order.gather(1, distances.gather(1, order).argsort(dim=1, stable=True))
    return distances.gather(1, order), ids.gather(1, order).clamp_min(NOT_FOUND)


def arrange_nearest(
    rows: Tensor, distances: Tensor, ids: Tensor, shape: tuple[int, int], farthest: int
) -> tuple[Tensor, Tensor]:
    """Arrange neighbours, listed query by query, as matrices; see `sort_nearest` for their order.

    Args:
        rows: int64 (n,), ascending, the query of each neighbour; at most k of each.
        distances: (n,).
        ids: (n,).
        shape: (q, k).
        farthest: distance of neighbours that were not found, b + 1.

    Returns:
        Distances and ids, int64 (q, k).
    """
    rows = rows.contiguous()
    rank = torch.arange(len(rows)) - torch.searchsorted(rows, rows)
    near, found = torch.zeros(shape, dtype=distances.dtype), torch.full(shape, NOT_FOUND, dtype=torch.int64)
    near[rows, rank], found[rows, rank] = distances, ids.to(torch.int64)
    return sort_nearest(near, found, farthest)


def sort_within(offsets: Tensor, distances: Tensor, ids: Tensor) -> WithinRadius:
    """Sort each query's items by distance, then by id."""
    queries = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    order = ids.argsort(stable=True)
    order = order[distances[order].argsort(stable=True)]
    order = order[queries[order].argsort(stable=True)]
    return WithinRadius(offsets, distances[order], ids[order])


def arrange_within(rows: Tensor, distances: Tensor, ids: Tensor, queries: int) -> WithinRadius:
    """Group items by query, and sort them; arguments as for `arrange_nearest`, with the number of queries."""
    counts = torch.bincount(rows, minlength=queries)
    return sort_within(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), distances, ids)
