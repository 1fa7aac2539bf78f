"""Rank-biased precision, tie-aware (Moffat & Zobel, TOIS 2008)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments, convert_numpy_numbers
from deephash.metrics.graded_ranking import GradedRanking, grade_gains
from deephash.metrics.query_blocks import row_sums
from deephash.metrics.user_metric import UserMetric
from deephash.validation import InvalidInputError, is_number


def check_persistence(persistence: float) -> None:
    """Raise an error for a persistence that is not a probability below 1.

    Raises:
        InvalidInputError: the persistence is out of range.
    """
    if not is_number(persistence) or not 0 < persistence < 1:
        raise InvalidInputError(f"persistence={persistence!r}; expected a number between 0 and 1, such as 0.8.")


@convert_numpy_numbers
def rank_biased_precision(ranking: GradedRanking, persistence: float = 0.8) -> Tensor:
    """Compute the expected gain per item seen, by a user who continues with probability p: (1 - p) Σ_i p^(i-1) gain_i.

    All ranks count. A tie group at ranks N + 1 to N + n adds p^N (1 - p^n) times its mean gain. An item of grade g
    gains 2^g - 1, divided by the gain of the highest grade, so that the value is between 0 and 1.

    Args:
        ranking: ranking of q queries.
        persistence: p; a user with p = 0.8 looks at 5 items on average, one with p = 0.95 at 20.

    Returns:
        float64 (q,); NaN if a query has no relevant item.

    Raises:
        InvalidInputError: a persistence that is not between 0 and 1.
    """
    check_persistence(persistence)
    log_p = math.log(persistence)
    weights = torch.exp(ranking.before * log_p).mul_(torch.expm1(ranking.total * log_p).neg_())
    highest_gain = float(grade_gains(ranking.highest)[-1])
    return ranking.nan_without_relevant(row_sums(weights.mul_(ranking.gains)) / highest_gain)


@convert_numpy_arguments
@dataclass(frozen=True)
class RankBiasedPrecision(UserMetric):
    """RBP among the figures of a run.

    Args:
        persistence: values of p.

    Raises:
        InvalidInputError: a persistence that is not between 0 and 1.
    """

    persistence: Sequence[float] = (0.8,)

    def __post_init__(self) -> None:
        for persistence in self.persistence:
            check_persistence(persistence)

    def values(self, ranking: GradedRanking, mark: str = "") -> dict[str, Tensor]:
        """Return RBP of each query, named by its persistence."""
        return {f"RBP{mark}_{p}": rank_biased_precision(ranking, p) for p in self.persistence}
