"""Expected reciprocal rank, tie-aware (Chapelle, Metzler, Zhang & Grinspan, CIKM 2009)."""

import torch
from torch import Tensor

from deephash.metrics.expected_ranks import grade_gains, rank_groups, without_relevant
from deephash.ranking.graded_counts import GradedCounts


def chances_to_stop(highest: int, device: torch.device | None = None) -> Tensor:
    """(2^g - 1) / 2^G, the chance that an item of grade g satisfies: float64 (G + 1,) (Equation 4)."""
    return grade_gains(highest, device) / 2.0**highest


def chances_to_pass(by_grade: Tensor, pass_one: Tensor, depth: int) -> Tensor:
    """Chance that a user passes the first t items of a tie group, mean over its orders, t = 0 to `depth`.

    The t items are drawn without replacement. Grade by grade: x of them are of this grade with hypergeometric chance,
    and the other t - x come from the lower grades, whose chances are known. Beyond the group's size it is 0.

    Args:
        by_grade: float64 (p, G + 1), items of each grade in p groups.
        pass_one: float64 (G + 1,), the chance that an item of a grade is passed.
        depth: largest t.

    Returns:
        float64 (p, depth + 1).
    """
    drawn = torch.arange(depth + 1, dtype=torch.float64, device=by_grade.device)
    sizes = by_grade[:, :1]
    passed = (pass_one[0] ** drawn) * (drawn <= sizes)
    for grade in range(1, by_grade.shape[1]):
        own, lower = by_grade[:, grade, None], sizes
        sizes = lower + own
        found = torch.zeros_like(passed)
        for x in range(depth + 1):
            t = drawn[x:]
            ways = log_choose(own, drawn[x]) + log_choose(lower, t - x)
            chance = torch.exp(ways - log_choose(sizes, t)).masked_fill(t > sizes, 0.0)
            found[:, x:] += chance * pass_one[grade] ** x * passed[:, : depth + 1 - x]
        passed = found
    return passed


def log_choose(n: Tensor, k: Tensor) -> Tensor:
    """The logarithm of C(n, k), minus infinity where k > n; whole numbers as float64."""
    value = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp_min(0) + 1)
    return value.masked_fill(k > n, -torch.inf)


def expected_reciprocal_rank(counts: GradedCounts, k: int) -> Tensor:
    """Expected ERR@k: Σ_i 1/i times the chance that the user, who reads downwards, is satisfied at rank i.

    An item of grade g satisfies with chance (2^g - 1) / 2^G; with two grades a relevant one does half of the time. The
    chance to stop at rank i is that of passing i - 1 ranks less that of passing i, and passing multiplies over tie
    groups; within one it is the mean over all orders, in closed form (`chances_to_pass`).

    Args:
        counts: items of each grade at each distance, (q, D + 1, G + 1).
        k: number of ranks, 1 to N; what lies beyond 100 adds little, and time grows as k².

    Returns:
        float64 (q,); NaN where a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    ranks = rank_groups(counts, k)
    queries = torch.arange(len(ranks.group), device=ranks.group.device)[:, None].expand_as(ranks.group)
    pass_one = 1 - chances_to_stop(counts.highest, ranks.group.device)
    # The distinct groups that the first ranks touch, whatever the query.
    key = queries * counts.by_grade.shape[1] + ranks.group
    touched, of_rank = torch.unique(key, return_inverse=True)
    by_grade = counts.by_grade.flatten(0, 1)[touched].double()
    within = chances_to_pass(by_grade, pass_one, k)[of_rank, ranks.place]
    whole = (by_grade * pass_one.log()).sum(1)[of_rank]
    # A group is passed as a whole at its last rank; what was passed before it is carried from there.
    ends = torch.where(ranks.place == ranks.total, whole, 0.0)
    before = ends.cumsum(1) - ends
    passed = before.exp() * within
    stopped = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], 1) - passed
    reciprocal = 1 / torch.arange(1, k + 1, dtype=torch.float64, device=passed.device)
    return (stopped @ reciprocal).masked_fill(without_relevant(counts), torch.nan)
