"""A ranking as its tie groups: the items at one distance, and the numbers of items before them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.metrics.checks import check_cutoff, count_ranked_items
from deephash.ranking.counts import DistanceCounts


@dataclass(frozen=True)
class TieGroups:
    """The groups of tied items of q rankings, nearest first, optionally cut after k ranks.

    Integers are stored as float64, which is exact to 2^53, because metrics combine them with fractions.

    Args:
        total: number n of items in each group, (q, g).
        relevant: number r of relevant items in each group, (q, g).
        before: number N of items in the groups before, (q, g).
        relevant_before: number R of relevant items in the groups before, (q, g).
        taken: number c of ranks of each group above the cutoff, (q, g); n without a cutoff.
    """

    total: Tensor
    relevant: Tensor
    before: Tensor
    relevant_before: Tensor
    taken: Tensor

    @classmethod
    def from_counts(cls, counts: DistanceCounts, k: int | None = None) -> "TieGroups":
        """Build the groups of `counts`, one per distance, optionally cut after the first k ranks.

        Raises:
            InvalidInputError: k below 1 or above the number of ranked items.
        """
        if k is not None:
            check_cutoff(k, count_ranked_items(counts))
        total, relevant = counts.total.double(), counts.relevant.double()
        before = total.cumsum(1).sub_(total)
        taken = total if k is None else torch.minimum((k - before).clamp_min_(0), total)
        return cls(total, relevant, before, relevant.cumsum(1).sub_(relevant), taken)


@dataclass(frozen=True)
class CutGroup:
    """The group of each ranking that contains rank k; fields as in TieGroups, float64 (q,).

    Args:
        earlier: bool (q, g), the groups before it.
    """

    total: Tensor
    relevant: Tensor
    before: Tensor
    relevant_before: Tensor
    taken: Tensor
    earlier: Tensor


def cut_group(groups: TieGroups) -> CutGroup:
    """Return the last group with a rank above the cutoff, 1 <= c <= n; every query must rank at least one item."""
    positions = torch.arange(groups.total.shape[1], device=groups.total.device)
    pick = (positions * (groups.taken > 0)).amax(1, keepdim=True)
    fields = (groups.total, groups.relevant, groups.before, groups.relevant_before, groups.taken)
    total, relevant, before, relevant_before, taken = (field.gather(1, pick)[:, 0] for field in fields)
    return CutGroup(total, relevant, before, relevant_before, taken, positions < pick)
