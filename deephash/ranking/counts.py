"""The result of a ranking: how many items, and how many relevant ones, lie at each distance."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DistanceCounts:
    """A query's whole ranking as two histograms over its D + 1 possible distances.

    Everything that a ranking metric needs follows from these, whatever the order of tied items.

    Args:
        total: int64 (q, D + 1), items at each distance.
        relevant: int64 (q, D + 1), relevant items at each distance.
    """

    total: Tensor
    relevant: Tensor
