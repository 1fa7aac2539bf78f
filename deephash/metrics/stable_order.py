"""Average precision as code with a stable sort gets it: tied items in the order of the database.

These values depend on how the database happens to be ordered; they are here to be set beside published ones. Queries
come as the ranks of their relevant items, `RankingEngine.relevant_ranks`: query i's are
ranks[offsets[i] : offsets[i+1]], 0-based and rising.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deephash.conversion import plain_numbers
from deephash.metrics.checks import check_cutoff
from deephash.validation import InvalidInputError

# Ranks in a block: four temporaries of it take some 130 MB.
_BLOCK_RANKS = 1 << 22


def stable_average_precision(offsets: Tensor, ranks: Tensor) -> Tensor:
    """AP over the whole ranking: the mean over relevant items of (its place among them) / (its rank), from 1.

    Args:
        offsets: int64 (q + 1,).
        ranks: int64 (offsets[q],), 0-based, rising within a query.

    Returns:
        float64 (q,); NaN where a query has no relevant item.

    Raises:
        InvalidInputError: offsets and ranks that do not belong together.
    """
    return _precision_sums(offsets, ranks, None)[0] / offsets.diff()


@plain_numbers
def stable_average_precision_at(offsets: Tensor, ranks: Tensor, k: int) -> Tensor:
    """AP@k, divided by min(k, relevant items).

    Args:
        offsets: int64 (q + 1,).
        ranks: int64 (offsets[q],), 0-based, rising within a query.
        k: number of ranks, at least 1.

    Returns:
        float64 (q,); NaN where a query has no relevant item.

    Raises:
        InvalidInputError: k below 1, or offsets and ranks that do not belong together.
    """
    return _precision_sums(offsets, ranks, k)[0] / offsets.diff().clamp_max(k)


@plain_numbers
def stable_average_precision_at_over_relevant(offsets: Tensor, ranks: Tensor, k: int) -> Tensor:
    """AP@k, divided by all relevant items.

    Args, returns, raises: as `stable_average_precision_at`.
    """
    return _precision_sums(offsets, ranks, k)[0] / offsets.diff()


@plain_numbers
def stable_average_precision_at_over_hits(offsets: Tensor, ranks: Tensor, k: int) -> Tensor:
    """AP@k, divided by the relevant items among the first k; 0 where there is none.

    Args, returns, raises: as `stable_average_precision_at`.
    """
    sums, hits = _precision_sums(offsets, ranks, k)
    return (sums / hits.clamp_min(1)).masked_fill_(offsets.diff() == 0, torch.nan)


def stable_order_metrics(offsets: Tensor, ranks: Tensor, at: Sequence[int]) -> dict[str, Tensor]:
    """Every value of this file, under the name that its mean over queries has.

    Args:
        offsets: int64 (q + 1,).
        ranks: int64 (offsets[q],), 0-based, rising within a query.
        at: the k of the metrics at k.

    Returns:
        float64 (q,) each; NaN where a query has no relevant item.
    """
    values = {"mAP_stable": stable_average_precision(offsets, ranks)}
    for k in at:
        values |= {
            f"mAP_stable@{k}": stable_average_precision_at(offsets, ranks, k),
            f"mAP_stable@{k}/hits": stable_average_precision_at_over_hits(offsets, ranks, k),
            f"mAP_stable@{k}/relevant": stable_average_precision_at_over_relevant(offsets, ranks, k),
        }
    return values


def _precision_sums(offsets: Tensor, ranks: Tensor, k: int | None) -> tuple[Tensor, Tensor]:
    """Sum of the precisions at relevant ranks below k, float64 (q,), and the number of these ranks, int64 (q,)."""
    if k is not None:
        check_cutoff(k)
    if len(offsets) == 0 or int(offsets[0]) != 0 or int(offsets[-1]) != len(ranks):
        raise InvalidInputError(
            f"offsets do not rise from 0 to the number of ranks, {len(ranks)}; give both as ranked."
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
