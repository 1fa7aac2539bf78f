"""Reservoir sampling: a uniform sample of a stream of unknown length, in a store of fixed size (Vitter, 1985)."""

import torch
from torch import Tensor


def reservoir_places(seen: int, count: int, capacity: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return which items of a batch enter a reservoir, and at which places.

    While there is room, item number t (from 0) goes to place t. Later items draw a place from 0 to t, and enter if
    that place lies within the reservoir (Algorithm R). After each item, every item so far is in the reservoir with the
    same probability.

    Args:
        seen: number of items before the batch.
        count: number of items of the batch.
        capacity: number of places.
        generator: CPU generator; it draws only for items that find no free place.

    Returns:
        Rows of the batch that are in the reservoir at its end, int64 (m,), ascending, and their places, int64 (m,),
        distinct.
    """
    free = max(0, min(count, capacity - seen))
    numbers = torch.arange(seen + free, seen + count, dtype=torch.float64)
    drawn = (torch.rand(count - free, generator=generator, dtype=torch.float64) * (numbers + 1)).long()
    places = torch.cat([torch.arange(seen, seen + free), drawn])
    rows = torch.nonzero(places < capacity).flatten()
    places = places[rows]
    # If several items draw the same place, the last one stays.
    last = {place: i for i, place in enumerate(places.tolist())}
    kept = torch.tensor(sorted(last.values()), dtype=torch.int64)
    return rows[kept], places[kept]
