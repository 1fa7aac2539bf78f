"""The result of a ranking: the number of items, and of relevant items, at each distance."""

from dataclasses import dataclass

from torch import Tensor

from deephash.conversion import as_tensor
from deephash.validation import as_numbers


@dataclass(frozen=True)
class DistanceCounts:
    """A query's ranking as two histograms over its D + 1 possible distances.

    Every ranking metric that averages over the order of tied items is a function of these counts.

    Args:
        total: int64 (q, D + 1), items at each distance.
        relevant: int64 (q, D + 1), relevant items at each distance.
    """

    total: Tensor
    relevant: Tensor

    def __post_init__(self) -> None:
        for name in ("total", "relevant"):
            object.__setattr__(self, name, as_tensor(as_numbers(getattr(self, name), f"{name} counts")))

    def __add__(self, other: "DistanceCounts") -> "DistanceCounts":
        """Add the counts of two parts of a database; sums of integers do not depend on the order."""
        return DistanceCounts(self.total + other.total, self.relevant + other.relevant)
