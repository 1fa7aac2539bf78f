"""Merge the nearest items of shards into those of the whole database, exactly."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deephash.validation import InvalidInputError


def merge_nearest(distances: Sequence[Tensor], ids: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Return the k nearest items among those of several shards, nearest first; ties are ordered by id.

    The result equals a scan of all shards together if each shard contributed its own k nearest, or all its items, in
    that order: an item that a shard omitted has k items of the shard before it.

    Args:
        distances: distances from each shard, int64 (q, k_s).
        ids: rows of the whole database, int64 (q, k_s); -1, in the last places, if a shard found too few.
        k: number of neighbours.

    Returns:
        Distances and ids, int64 (q, k).

    Raises:
        InvalidInputError: no shards, or fewer than k items in all.
    """
    if not distances:
        raise InvalidInputError("there are no answers to merge; pass at least one.")
    all_distances, all_ids = torch.cat(list(distances), 1), torch.cat(list(ids), 1)
    places = nearest_places(all_distances, all_ids, k)
    return all_distances.gather(1, places), all_ids.gather(1, places)


def nearest_places(distances: Tensor, ids: Tensor, k: int) -> Tensor:
    """Return the positions of the k nearest among the items of all shards, int64 (q, k).

    Args:
        distances: distances from all shards side by side, int64 (q, m).
        ids: rows of the whole database, int64 (q, m); -1, in the last places, if a shard found too few.
        k: number of neighbours.

    Raises:
        InvalidInputError: fewer than k items.
    """
    if ids.shape[1] < k:
        raise InvalidInputError(f"k={k} exceeds the {ids.shape[1]} items that the shards found; lower k.")
    order = torch.where(ids < 0, torch.iinfo(torch.int64).max, ids).argsort(dim=1, stable=True)
    return order.gather(1, distances.gather(1, order).argsort(dim=1, stable=True))[:, :k]
