"""A ranking as its tie groups: the items at one distance, and what lies before them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.ranking.counts import DistanceCounts


@dataclass(frozen=True)
class TieGroups:
    """The groups of tied items of q rankings, nearest first, perhaps cut after k ranks.

    Args:
        total: int64 (q, g), n, items in the group.
        relevant: int64 (q, g), r, relevant ones.
        before: int64 (q, g), N, items in the groups before.
        relevant_before: int64 (q, g), R, relevant ones in the groups before.
        taken: int64 (q, g), c, how many of the group's ranks are above the cut: n without a cut.
    """

    total: Tensor
    relevant: Tensor
    before: Tensor
    relevant_before: Tensor
    taken: Tensor

    @classmethod
    def of(cls, counts: DistanceCounts, k: int | None = None) -> "TieGroups":
        """The groups of `counts`, cut after the first k ranks, or not.

        Distances that no query has an item at, below the smallest and above the largest, are left out: of 1,024-bit
        codes, that is most of them.
        """
        used = torch.nonzero(counts.total.any(0)).flatten()
        near, far = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        total, relevant = counts.total[:, near:far], counts.relevant[:, near:far]
        before = total.cumsum(1).sub_(total)
        taken = total if k is None else torch.minimum((k - before).clamp_min_(0), total)
        return cls(total, relevant, before, relevant.cumsum(1).sub_(relevant), taken)


@dataclass(frozen=True)
class CutGroup:
    """Of each ranking, the group that rank k falls in; every field but `earlier` is int64 (q,), named as in TieGroups.

    Args:
        earlier: bool (q, g), the groups that come before it.
    """

    total: Tensor
    relevant: Tensor
    before: Tensor
    relevant_before: Tensor
    taken: Tensor
    earlier: Tensor


def cut_group(groups: TieGroups) -> CutGroup:
    """The last group of which a rank is taken, 1 <= c <= n; every query must rank at least one item."""
    positions = torch.arange(groups.total.shape[1], device=groups.total.device)
    pick = (positions * (groups.taken > 0)).amax(1, keepdim=True)
    fields = (groups.total, groups.relevant, groups.before, groups.relevant_before, groups.taken)
    total, relevant, before, relevant_before, taken = (field.gather(1, pick)[:, 0] for field in fields)
    return CutGroup(total, relevant, before, relevant_before, taken, positions < pick)
