"""Expected reciprocal rank, tie-aware (Chapelle, Metzler, Zhang & Grinspan, CIKM 2009)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments, convert_numpy_numbers
from deephash.metrics.checks import check_cutoff
from deephash.metrics.graded_ranking import GradedRanking, grade_gains
from deephash.metrics.query_blocks import row_sums
from deephash.metrics.user_metric import DepthMetric
from deephash.validation import InvalidInputError

# The time grows with the square of the depth; products of this many probabilities still fit float64.
MAX_RANKS = 500


def chances_to_stop(highest: int, device: torch.device | None = None) -> Tensor:
    """Return (2^g - 1) / 2^G, the probability that an item of grade g satisfies a user: float64 (G + 1,) (Eq. 4)."""
    return grade_gains(highest, device) / 2.0**highest


def chances_to_pass(by_grade: Tensor, pass_one: Tensor, depth: int) -> Tensor:
    """Compute the probability that a user passes the first t items of a tie group, averaged over its orders.

    It is the mean, over all choices of t of the n items, of the product of their probabilities of being passed. This
    is the coefficient of z^t in Π_g (1 + p_g z)^(n_g), divided by C(n, t). The product is expanded grade by grade; no
    term is negative, so no digits are lost. For t > n the result is 0.

    Args:
        by_grade: float64 (p, G + 1), items of each grade in p groups.
        pass_one: float64 (G + 1,), the probability p_g that an item of a grade is passed.
        depth: largest t, at most `MAX_RANKS`.

    Returns:
        float64 (p, depth + 1), t = 0 to `depth`.
    """
    sizes = by_grade.sum(1)
    # z is scaled so that no coefficient exceeds e^depth, which float64 can represent.
    unit = depth / sizes.clamp_min(1)
    grades = zip(by_grade.unbind(1), pass_one.unbind(), strict=True)
    product, *others = (binomial_coefficients(n, p * unit, depth) for n, p in grades)
    for factor in others:
        multiplied = torch.zeros_like(product)
        for x in range(depth + 1):
            multiplied[:, x:].addcmul_(factor[:, x, None], product[:, : depth + 1 - x])
        product = multiplied
    drawn = torch.arange(depth + 1, dtype=torch.float64, device=by_grade.device)
    return torch.where(drawn <= sizes[:, None], product / binomial_coefficients(sizes, unit, depth), 0.0)


def binomial_coefficients(n: Tensor, scale: Tensor, depth: int) -> Tensor:
    """Compute C(n, t) scale^t, the coefficients of (1 + scale z)^n, for t = 0 to `depth`: (p,) → (p, depth + 1)."""
    t = torch.arange(depth, dtype=torch.float64, device=n.device)
    ratios = (n[:, None] - t).clamp_min_(0).mul_(scale[:, None]).div_(t + 1)
    return torch.nn.functional.pad(ratios.cumprod(1), (1, 0), value=1.0)


@convert_numpy_numbers
def expected_reciprocal_rank(ranking: GradedRanking, k: int) -> Tensor:
    """Compute expected ERR@k: Σ_i 1/i times the probability that a user who reads downwards is satisfied at rank i.

    An item of grade g satisfies with probability (2^g - 1) / 2^G; with two grades, a relevant item does so with
    probability 1/2. The probability of stopping at rank i is that of passing i - 1 ranks minus that of passing i.
    Probabilities of passing multiply over tie groups; within a group the mean over all orders has a closed form
    (`chances_to_pass`).

    Args:
        ranking: ranking of q queries.
        k: number of ranks, 1 to N and at most `MAX_RANKS`; ranks beyond 100 add little.

    Returns:
        float64 (q,); NaN if a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items or `MAX_RANKS`.
    """
    ranking.check_depth(k)
    check_depth(k)
    device = ranking.total.device
    pass_one = 1 - chances_to_stop(ranking.highest, device)
    ranks = torch.arange(1, k + 1, dtype=torch.float64, device=device)
    group = torch.searchsorted(ranking.reached, ranks.expand(len(ranking.total), k).contiguous())
    place = ranks - ranking.before.gather(1, group)
    # Every group that the first k ranks touch begins at one of them.
    begins = place == 1
    row, rank = torch.nonzero(begins, as_tuple=True)
    by_grade = ranking.by_grade[row, group[row, rank]]
    touched = begins.flatten().cumsum(0).view_as(group) - 1
    within = chances_to_pass(by_grade, pass_one, k)[touched, place.long()]
    # The logarithm of passing a group is added at its last rank and carried to the groups after it.
    pass_group = row_sums(by_grade * pass_one.log())[touched]
    ends = torch.where(place == ranking.total.gather(1, group), pass_group, 0.0)
    passed = (ends.cumsum(1) - ends).exp_() * within
    stopped = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], 1) - passed
    return ranking.nan_without_relevant(row_sums(stopped / ranks))


def check_depth(k: int) -> None:
    """Raise an error for a depth beyond `MAX_RANKS`.

    Raises:
        InvalidInputError: k is too large.
    """
    check_cutoff(k)
    if k > MAX_RANKS:
        raise InvalidInputError(f"k={k} of ERR exceeds {MAX_RANKS}; ranks beyond 100 add little; lower k.")


@convert_numpy_arguments
@dataclass(frozen=True)
class ExpectedReciprocalRank(DepthMetric):
    """ERR@k among the figures of a run.

    Args:
        at: depths k; 20 as in TREC's web track.

    Raises:
        InvalidInputError: a k below 1 or above `MAX_RANKS`.
    """

    label: ClassVar[str] = "ERR"

    at: Sequence[int] = (20,)

    def __post_init__(self) -> None:
        for k in self.at:
            check_depth(k)

    def value(self, ranking: GradedRanking, k: int) -> Tensor:
        """Return ERR@k."""
        return expected_reciprocal_rank(ranking, k)
