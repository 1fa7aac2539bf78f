"""Rankings by graded relevance for metrics of user models, with their shared quantities computed once."""

from functools import cached_property

import torch
from torch import Tensor

from deephash.metrics.checks import check_cutoff
from deephash.ranking.graded_counts import GradedCounts


def linear_gains(highest: int, device: torch.device | None = None) -> Tensor:
    """Return the grades g = 0 to G themselves: float64 (G + 1,), the gains of TREC (Järvelin & Kekäläinen, 2002)."""
    return torch.arange(highest + 1, dtype=torch.float64, device=device)


def grade_gains(highest: int, device: torch.device | None = None) -> Tensor:
    """Return 2^g - 1 for the grades g = 0 to G: float64 (G + 1,) (Burges et al., ICML 2005)."""
    return 2.0 ** torch.arange(highest + 1, dtype=torch.float64, device=device) - 1


class GradedRanking:
    """The groups of tied items of q rankings, nearest first; an item is relevant from grade 1 on.

    Integers are stored as float64, as in `TieGroups`.

    Args:
        counts: items of each grade at each distance, (q, D + 1, G + 1).
    """

    def __init__(self, counts: GradedCounts) -> None:
        self.counts = counts

    @property
    def highest(self) -> int:
        """The highest grade G of an item."""
        return self.counts.highest

    @cached_property
    def by_grade(self) -> Tensor:
        """Items of each grade in each group, (q, D + 1, G + 1)."""
        return self.counts.by_grade.double()

    @cached_property
    def total(self) -> Tensor:
        """Items in each group, (q, D + 1)."""
        return self.counts.total.double()

    @cached_property
    def reached(self) -> Tensor:
        """Items in each group and the groups before, (q, D + 1)."""
        return self.total.cumsum(1)

    @cached_property
    def before(self) -> Tensor:
        """Items in the groups before, (q, D + 1)."""
        return self.reached - self.total

    @cached_property
    def relevant(self) -> Tensor:
        """Relevant items in each group, (q, D + 1)."""
        return self.total - self.by_grade[:, :, 0]

    @cached_property
    def found(self) -> Tensor:
        """Relevant items in each group and the groups before, (q, D + 1)."""
        return self.relevant.cumsum(1)

    @cached_property
    def gains(self) -> Tensor:
        """Mean gain of each group's items, the expected gain at each of its ranks, (q, D + 1); 0 for empty groups."""
        return self.mean_gains(grade_gains(self.highest, self.by_grade.device))

    def mean_gains(self, gains: Tensor) -> Tensor:
        """Return the mean of the gains float64 (G + 1,) of each group's items, (q, D + 1); 0 for empty groups."""
        # Sums of integers are exact in any order.
        return (self.by_grade @ gains).div_(self.total.clamp_min(1))

    def nan_without_relevant(self, values: Tensor) -> Tensor:
        """Set the values (q,) of queries without a relevant item, whose rankings are all equally good, to NaN."""
        return values.masked_fill(self.found[:, -1] == 0, torch.nan)

    def check_depth(self, k: int) -> None:
        """Raise an error for a depth k that is not an integer from 1 to the number of ranked items.

        Raises:
            InvalidInputError: k is out of range.
        """
        check_cutoff(k, int(self.reached[:, -1].min()) if len(self.total) else None)
