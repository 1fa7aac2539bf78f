"""Rankings by graded relevance as metrics of user models read them: what they share is worked out once."""

from functools import cached_property

import torch
from torch import Tensor

from deephash.metrics.checks import check_cutoff
from deephash.ranking.graded_counts import GradedCounts


def grade_gains(highest: int, device: torch.device | None = None) -> Tensor:
    """2^g - 1 for the grades g = 0 to G: float64 (G + 1,) (Burges et al., ICML 2005)."""
    return 2.0 ** torch.arange(highest + 1, dtype=torch.float64, device=device) - 1


class GradedRanking:
    """The groups of tied items of q rankings, nearest first; an item is relevant from grade 1 on.

    Whole numbers are held as float64, as in `TieGroups`.

    Args:
        counts: items of each grade at each distance, (q, D + 1, G + 1).
    """

    def __init__(self, counts: GradedCounts) -> None:
        self.counts = counts

    @property
    def highest(self) -> int:
        """G, the highest grade that an item can have."""
        return self.counts.highest

    @cached_property
    def by_grade(self) -> Tensor:
        """(q, D + 1, G + 1), items of each grade in the group."""
        return self.counts.by_grade.double()

    @cached_property
    def total(self) -> Tensor:
        """(q, D + 1), items in the group."""
        return self.counts.total.double()

    @cached_property
    def reached(self) -> Tensor:
        """(q, D + 1), items in the group and those before it."""
        return self.total.cumsum(1)

    @cached_property
    def before(self) -> Tensor:
        """(q, D + 1), items in the groups before."""
        return self.reached - self.total

    @cached_property
    def relevant(self) -> Tensor:
        """(q, D + 1), relevant items in the group."""
        return self.total - self.by_grade[:, :, 0]

    @cached_property
    def found(self) -> Tensor:
        """(q, D + 1), relevant items in the group and those before it."""
        return self.relevant.cumsum(1)

    @cached_property
    def gains(self) -> Tensor:
        """(q, D + 1), mean gain of the group's items, which each of its ranks has in expectation; 0 of no items."""
        # Sums of whole numbers, exact in any order.
        return (self.by_grade @ grade_gains(self.highest, self.by_grade.device)).div_(self.total.clamp_min(1))

    def nan_without_relevant(self, values: Tensor) -> Tensor:
        """Values (q,), with NaN for the queries without a relevant item, where no ranking is better than another."""
        return values.masked_fill(self.found[:, -1] == 0, torch.nan)

    def check_depth(self, k: int) -> None:
        """Raise an error for a depth k that is no whole number from 1 to the number of ranked items.

        Raises:
            InvalidInputError: naming k and the bound.
        """
        check_cutoff(k, int(self.reached[:, -1].min()) if len(self.total) else None)
