"""Normalised discounted cumulative gain, tie-aware (Järvelin & Kekäläinen, TOIS 2002; McSherry & Najork, ECIR 2008)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments, convert_numpy_numbers
from deephash.metrics.graded_ranking import GradedRanking, grade_gains, linear_gains
from deephash.metrics.query_blocks import row_sums
from deephash.metrics.user_metric import DepthMetric
from deephash.validation import check_choice

EXPONENTIAL, LINEAR = "exponential", "linear"
GAINS = {EXPONENTIAL: grade_gains, LINEAR: linear_gains}


@convert_numpy_numbers
def ndcg_at(ranking: GradedRanking, k: int, gains: str = EXPONENTIAL) -> Tensor:
    """Compute expected nDCG@k: Σ_i gain at rank i / log2(i + 1), divided by the same sum for the best order.

    A rank in a tie group has the group's mean gain in expectation (McSherry & Najork 2008, Section 3.6), so a group
    adds its mean gain times the discounts of its ranks. An item of grade g gains 2^g - 1 (Burges et al., ICML 2005);
    with grades 0 and 1 this is the grade itself.

    Args:
        ranking: ranking of q queries.
        k: number of ranks, 1 to N.
        gains: "exponential", or "linear" for a gain of g, as in TREC's and BEIR's evaluations.

    Returns:
        float64 (q,), 0 to 1; NaN if a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items, or unknown gains.
    """
    ranking.check_depth(k)
    check_choice(gains, GAINS, "gains")
    device = ranking.total.device
    ranks = torch.arange(1, k + 1, dtype=torch.float64, device=device)
    discounts = torch.cat([ranks.new_zeros(1), (1 / torch.log2(ranks + 1)).cumsum(0)])

    of_grades = GAINS[gains](ranking.highest, device)

    def discounted(gains: Tensor, before: Tensor, reached: Tensor) -> Tensor:
        above = discounts[reached.clamp_max(k).long()] - discounts[before.clamp_max(k).long()]
        return row_sums(gains * above)

    # The best order has a group of each grade, the highest first.
    grades = ranking.by_grade.sum(1).flip(1)
    reached = grades.cumsum(1)
    best = discounted(of_grades.flip(0), reached - grades, reached)
    found = discounted(ranking.mean_gains(of_grades), ranking.before, ranking.reached)
    return ranking.nan_without_relevant(found / best)


@convert_numpy_arguments
@dataclass(frozen=True)
class NDCG(DepthMetric):
    """nDCG@k among the figures of a run.

    Args:
        at: depths k; 10 suits users who look at one page of results.
        gains: gain of an item of grade g: "exponential" for 2^g - 1, or "linear" for g, as in TREC's evaluations.

    Raises:
        InvalidInputError: a k below 1, or unknown gains.
    """

    label: ClassVar[str] = "nDCG"

    at: Sequence[int] = (10,)
    gains: str = EXPONENTIAL

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.gains, GAINS, "gains")

    def value(self, ranking: GradedRanking, k: int) -> Tensor:
        """Return nDCG@k."""
        return ndcg_at(ranking, k, self.gains)
