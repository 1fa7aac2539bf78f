"""Rank-biased precision, tie-aware (Moffat & Zobel, TOIS 2008)."""

import torch
from torch import Tensor

from deephash.metrics.expected_ranks import grade_gains, group_gains, without_relevant
from deephash.ranking.graded_counts import GradedCounts
from deephash.validation import InvalidInputError


def check_persistence(persistence: float) -> None:
    """Refuse a persistence that is no chance below 1.

    Raises:
        InvalidInputError: naming it.
    """
    if isinstance(persistence, bool) or not 0 < persistence < 1:
        raise InvalidInputError(f"persistence={persistence!r}; expected a number between 0 and 1, as 0.8.")


def rank_biased_precision(counts: GradedCounts, persistence: float = 0.8) -> Tensor:
    """Expected gain an item that a user looks at, who after each goes on with chance p: (1 - p) Σ_i p^(i-1) gain_i.

    All ranks count, in closed form by tie group: n ranks after N add p^N (1 - p^n) times the group's mean gain. Gains
    are 2^g - 1 over that of the highest grade, so that the value lies between 0 and 1.

    Args:
        counts: items of each grade at each distance, (q, D + 1, G + 1).
        persistence: p. 0.8 is a user who looks at 5 items on average, 0.95 one of 20.

    Returns:
        float64 (q,); NaN where a query has no relevant item.

    Raises:
        InvalidInputError: a persistence that is not between 0 and 1.
    """
    check_persistence(persistence)
    total = counts.total.double()
    before = total.cumsum(1) - total
    weights = persistence**before * (1 - persistence**total)
    gains = group_gains(counts) / grade_gains(counts.highest)[-1].item()
    return (weights * gains).sum(1).masked_fill(without_relevant(counts), torch.nan)
