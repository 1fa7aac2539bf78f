"""Success@k, tie-aware: whether a user who looks at k items finds anything."""

import torch
from torch import Tensor

from deephash.metrics.checks import check_cutoff, or_nan, ranked_items
from deephash.metrics.query_blocks import in_query_blocks
from deephash.metrics.tie_groups import TieGroups, cut_group
from deephash.ranking.counts import DistanceCounts


@in_query_blocks
def success_at(counts: DistanceCounts, k: int) -> Tensor:
    """Chance that a relevant item is among the first k, over the orders of tied items.

    1 where a group above the cut holds one; else, with c of the n places of the cut group above it and r relevant
    items there, 1 - C(n - r, c) / C(n, c).

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        k: number of ranks, 1 to N.

    Returns:
        float64 (q,); NaN where a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    check_cutoff(k, ranked_items(counts))
    cut = cut_group(TieGroups.of(counts, k))
    others = cut.total - cut.relevant
    # C(n-r, c) / C(n, c) = (n-r)! (n-c)! / ((n-r-c)! n!)
    log_missed = (
        torch.lgamma(others + 1)
        + torch.lgamma(cut.total - cut.taken + 1)
        - torch.lgamma((others - cut.taken).clamp_min(0) + 1)
        - torch.lgamma(cut.total + 1)
    )
    missed = torch.where((cut.taken > others) | (cut.relevant_before > 0), 0.0, log_missed.exp().clamp_max(1))
    return or_nan(1 - missed, counts)
