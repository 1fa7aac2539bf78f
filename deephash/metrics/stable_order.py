"""Average precision of a stable sort: tied items in the order of the database.

These values depend on the arbitrary order of the database; use them only to compare with published ones. Each query is
represented by the ranks of its relevant items, as `RankingEngine.relevant_ranks` returns them: those of query i are
ranks[offsets[i] : offsets[i+1]], 0-based and ascending.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deephash.metrics.checks import check_cutoff
from deephash.validation import InvalidInputError

# Ranks of a block; its four temporaries take about 130 MB.
_BLOCK_RANKS = 1 << 22


def stable_order_metrics(offsets: Tensor, ranks: Tensor, at: Sequence[int] = ()) -> dict[str, Tensor]:
    """Compute AP of the whole ranking and of its first k ranks, in the order of a stable sort.

    Args:
        offsets: int64 (q + 1,).
        ranks: int64 (offsets[q],), 0-based, ascending within a query.
        at: depths k, each at least 1.

    Returns:
        float64 (q,) by name, NaN if a query has no relevant item. Each value is a sum of precisions at relevant ranks.
        "mAP_stable" divides it by the number r of relevant items. For each k, the sum is over the first k ranks:
        "mAP_stable@k" divides it by min(k, r), "mAP_stable@k/relevant" by r, and "mAP_stable@k/hits" by the number of
        relevant items among the first k (0 if there is none).

    Raises:
        InvalidInputError: a k below 1, or offsets and ranks that do not belong together.
    """
    relevant = offsets.diff()
    values = {"mAP_stable": _precision_sums(offsets, ranks, None)[0] / relevant}
    for k in at:
        sums, hits = _precision_sums(offsets, ranks, k)
        values[f"mAP_stable@{k}"] = sums / relevant.clamp_max(k)
        values[f"mAP_stable@{k}/hits"] = (sums / hits.clamp_min(1)).masked_fill_(relevant == 0, torch.nan)
        values[f"mAP_stable@{k}/relevant"] = sums / relevant
    return values


def _precision_sums(offsets: Tensor, ranks: Tensor, k: int | None) -> tuple[Tensor, Tensor]:
    """Sum the precisions at relevant ranks below k, float64 (q,), and count these ranks, int64 (q,)."""
    if k is not None:
        check_cutoff(k)
    if len(offsets) == 0 or int(offsets[0]) != 0 or int(offsets[-1]) != len(ranks):
        raise InvalidInputError(
            f"offsets do not rise from 0 to the number of ranks, {len(ranks)}; pass both from one ranking."
        )
    queries = len(offsets) - 1
    sums = torch.zeros(queries, dtype=torch.float64, device=ranks.device)
    hits = torch.zeros(queries, dtype=torch.int64, device=ranks.device)
    start = 0
    while start < queries:
        reach = offsets[start] + _BLOCK_RANKS
        stop = max(start + 1, int(torch.searchsorted(offsets, reach, right=True)) - 1)
        block = offsets[start : stop + 1]
        block_ranks = ranks[block[0] : block[-1]]
        lengths = block.diff()
        places = torch.arange(len(block_ranks), device=ranks.device)
        places -= torch.repeat_interleave(block[:-1] - block[0], lengths, output_size=len(block_ranks))
        precisions = (places + 1).double().div_(block_ranks + 1)
        if k is not None:
            above = block_ranks < k
            precisions.mul_(above)
            hits[start:stop] = torch.segment_reduce(above.double(), "sum", lengths=lengths).long()
        else:
            hits[start:stop] = lengths
        sums[start:stop] = torch.segment_reduce(precisions, "sum", lengths=lengths)
        start = stop
    return sums, hits
