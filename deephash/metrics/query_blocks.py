"""Metrics in blocks of queries, so that their float64 temporaries stay small for any number of queries."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

from deephash.ranking.counts import DistanceCounts

P = ParamSpec("P")

# On a CPU, temporaries of 256 KB stay in the cache, and torch does not split them over threads: to start threads would
# take longer than the arithmetic. On other devices, a block is large enough to hide the cost of a kernel launch.
_CPU_BLOCK_COUNTS = 1 << 15
_BLOCK_COUNTS = 1 << 21


def block_rows(device: torch.device, columns: int) -> int:
    """Return the number of queries in a block on a device, for a number of columns per query."""
    return max(1, (_CPU_BLOCK_COUNTS if device.type == "cpu" else _BLOCK_COUNTS) // columns)


def query_blocks(counts: DistanceCounts) -> Iterator[DistanceCounts]:
    """Yield the counts in blocks of queries; one empty block if there are no queries."""
    rows = block_rows(counts.total.device, counts.total.shape[1])
    for start in range(0, max(1, len(counts.total)), rows):
        yield DistanceCounts(counts.total[start : start + rows], counts.relevant[start : start + rows])


def select_used_distances(counts: DistanceCounts) -> DistanceCounts:
    """Return the counts from the smallest to the largest distance that occurs, at least one column.

    For 1,024-bit codes, which are about 350 to 650 bits apart, a third of the columns remains.
    """
    used = find_used_columns(counts.total)
    return DistanceCounts(counts.total[:, used], counts.relevant[:, used])


def find_used_columns(total: Tensor) -> slice:
    """Return the slice from the first to the last nonzero column of (q, D + 1); one column if all are 0."""
    used = torch.nonzero(total.sum(0)).flatten()
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)


def in_query_blocks(
    metric: Callable[Concatenate[DistanceCounts, P], Tensor],
) -> Callable[Concatenate[DistanceCounts, P], Tensor]:
    """Run a metric in blocks of queries and only on used distances.

    The metric, counts → (q,), must treat queries independently and depend on the order of distances, not on their
    values.
    """

    @wraps(metric)
    def blocked(counts: DistanceCounts, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        blocks = query_blocks(select_used_distances(counts))
        return torch.cat([metric(block, *args, **kwargs) for block in blocks])

    return blocked


def row_sums(values: Tensor) -> Tensor:
    """Sum each row in order, (q, m) → (q,).

    Zeros at either end do not change the sum, so the score of a query is the same, bit for bit, whichever other queries
    are in its block.
    """
    return values.cumsum(1)[:, -1]
