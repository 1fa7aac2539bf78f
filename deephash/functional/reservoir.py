"""Reservoir sampling: a uniform sample of a stream of unknown length, in a store of fixed size (Vitter, 1985)."""

import torch
from torch import Tensor


def reservoir_places(seen: int, count: int, capacity: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which items of a batch enter a reservoir, and where.

    Item number t (from 0) takes place t while there is room, then a place drawn from 0 to t where that lies within
    (Algorithm R), so that after each item every one seen so far is held with the same chance.

    Args:
        seen: items before the batch.
        count: items of the batch.
        capacity: places.
        generator: CPU generator of the draws; it draws only for items that find no free place.

    Returns:
        Rows of the batch that enter and stay to its end, int64 (m,), rising, and their places, int64 (m,), distinct.
    """
    free = max(0, min(count, capacity - seen))
    numbers = torch.arange(seen + free, seen + count, dtype=torch.float64)
    drawn = (torch.rand(count - free, generator=generator, dtype=torch.float64) * (numbers + 1)).long()
    places = torch.cat([torch.arange(seen, seen + free), drawn])
    rows = torch.nonzero(places < capacity).flatten()
    places = places[rows]
    # Of several items with one place the last stays.
    last = {place: i for i, place in enumerate(places.tolist())}
    kept = torch.tensor(sorted(last.values()), dtype=torch.int64)
    return rows[kept], places[kept]
