"""Normalised discounted cumulative gain, tie-aware (Järvelin & Kekäläinen, TOIS 2002; McSherry & Najork, ECIR 2008)."""

import torch
from torch import Tensor

from deephash.metrics.expected_ranks import grade_gains, group_gains, rank_groups, without_relevant
from deephash.ranking.graded_counts import GradedCounts


def ndcg_at(counts: GradedCounts, k: int) -> Tensor:
    """Expected nDCG@k: Σ_i gain at rank i / log2(i + 1), over that of the best order of all items.

    A rank in a tie group has the group's mean gain in expectation (McSherry & Najork 2008, Section 3.6). An item of
    grade g gains 2^g - 1 (Burges et al., ICML 2005); with two grades this is the grade itself.

    Args:
        counts: items of each grade at each distance, (q, D + 1, G + 1).
        k: number of ranks, 1 to N.

    Returns:
        float64 (q,), 0 to 1; NaN where a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    gains = group_gains(counts).gather(1, rank_groups(counts, k).group)
    ranks = torch.arange(1, k + 1, dtype=torch.float64, device=gains.device)
    discounts = 1 / torch.log2(ranks + 1)
    # The best order: rank i has the highest grade of which, with those above it, i items exist.
    from_best = counts.by_grade.sum(1).flip(1).cumsum(1)
    grades = counts.highest - torch.searchsorted(from_best, ranks.long().expand(len(gains), k).contiguous())
    best = grade_gains(counts.highest, gains.device)[grades]
    values = (gains @ discounts) / (best @ discounts)
    return values.masked_fill(without_relevant(counts), torch.nan)
