"""The result of a ranking: how many items, and how many relevant ones, lie at each distance."""

from dataclasses import dataclass

from torch import Tensor

from deephash.conversion import as_tensor
from deephash.validation import numbers


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

    def __post_init__(self) -> None:
        for name in ("total", "relevant"):
            object.__setattr__(self, name, as_tensor(numbers(getattr(self, name), f"{name} counts")))

    def __add__(self, other: "DistanceCounts") -> "DistanceCounts":
        """The counts of two parts of a database together: whole numbers, so that no order of adding changes them."""
        return DistanceCounts(self.total + other.total, self.relevant + other.relevant)
