"""Success@k, tie-aware: whether a user who looks at k items finds a relevant one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments, convert_numpy_numbers
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.user_metric import DepthMetric


@convert_numpy_numbers
def success_at(ranking: GradedRanking, k: int) -> Tensor:
    """Compute the probability that a relevant item is among the first k, over the orders of tied items.

    It is 1 if a tie group that ends above the cutoff contains a relevant item. Otherwise it is 1 - C(n - r, c) /
    C(n, c): the group at the cutoff has n items, r of them relevant, and c places above the cutoff.

    Args:
        ranking: ranking of q queries.
        k: number of ranks, 1 to N.

    Returns:
        float64 (q,); NaN if a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    ranking.check_depth(k)
    group = (ranking.reached < k).sum(1, keepdim=True)
    fields = (ranking.total, ranking.relevant, ranking.before, ranking.found)
    total, relevant, before, found = (field.gather(1, group) for field in fields)
    # C(n - r, c) / C(n, c) is the product of (n - r - j) / (n - j) over the places j = 0 to c - 1.
    places = torch.arange(k, dtype=torch.float64, device=total.device)
    others = (total - relevant - places).clamp_min_(0) / (total - places)
    missed = torch.where(places < k - before, others, 1.0).cumprod(1)[:, -1]
    return ranking.nan_without_relevant(1 - missed.masked_fill((found > relevant)[:, 0], 0.0))


@convert_numpy_arguments
@dataclass(frozen=True)
class Success(DepthMetric):
    """Success@k among the figures of a run.

    Args:
        at: depths k.

    Raises:
        InvalidInputError: a k below 1.
    """

    graded: ClassVar[bool] = False
    label: ClassVar[str] = "success"

    at: Sequence[int] = (5,)

    def value(self, ranking: GradedRanking, k: int) -> Tensor:
        """Return success@k."""
        return success_at(ranking, k)
