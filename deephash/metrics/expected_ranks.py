"""What stands at each rank in expectation over the orders of tied items: the ground of the metrics of user models."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.metrics.checks import check_cutoff
from deephash.ranking.graded_counts import GradedCounts


@dataclass(frozen=True)
class RankGroups:
    """The tie group that each of the first k ranks falls in.

    Args:
        group: int64 (q, k), its distance.
        place: int64 (q, k), the rank's place in it, from 1.
        total: int64 (q, k), items in it.
    """

    group: Tensor
    place: Tensor
    total: Tensor


def rank_groups(counts: GradedCounts, k: int) -> RankGroups:
    """The tie groups of the first k ranks.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    total = counts.total
    check_cutoff(k, int(total.sum(1).min()) if len(total) else None)
    reached = total.cumsum(1)
    ranks = torch.arange(1, k + 1, device=total.device).expand(len(total), k).contiguous()
    group = torch.searchsorted(reached, ranks)
    size = total.gather(1, group)
    return RankGroups(group, ranks - (reached.gather(1, group) - size), size)


def grade_gains(highest: int, device: torch.device | None = None) -> Tensor:
    """2^g - 1 for the grades g = 0 to G: float64 (G + 1,) (Burges et al., ICML 2005)."""
    return 2.0 ** torch.arange(highest + 1, dtype=torch.float64, device=device) - 1


def group_gains(counts: GradedCounts) -> Tensor:
    """Mean gain of the items at each distance: float64 (q, D + 1), 0 where there is none."""
    gains = counts.by_grade.double() @ grade_gains(counts.highest, counts.by_grade.device)
    return gains / counts.total.clamp_min(1)


def without_relevant(counts: GradedCounts) -> Tensor:
    """Queries, as bool (q,), that have no item above grade 0, where no ranking is better than another."""
    return counts.by_grade[:, :, 1:].sum((1, 2)) == 0
