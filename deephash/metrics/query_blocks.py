"""Metrics in blocks of queries, so that their float64 temporaries stay small whatever the number of queries."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

from deephash.ranking.counts import DistanceCounts

P = ParamSpec("P")

# Counts in a block: a dozen temporaries of it take some 25 MB.
_BLOCK_COUNTS = 1 << 18


def query_blocks(counts: DistanceCounts) -> Iterator[DistanceCounts]:
    """The same counts, a block of queries at a time."""
    rows = max(1, _BLOCK_COUNTS // counts.total.shape[1])
    for start in range(0, len(counts.total), rows):
        yield DistanceCounts(counts.total[start : start + rows], counts.relevant[start : start + rows])


def in_query_blocks(
    metric: Callable[Concatenate[DistanceCounts, P], Tensor],
) -> Callable[Concatenate[DistanceCounts, P], Tensor]:
    """Let a metric that treats each query alone, counts → (q,), run in blocks of queries, with the same result."""

    @wraps(metric)
    def blocked(counts: DistanceCounts, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if counts.total.numel() <= _BLOCK_COUNTS:
            return metric(counts, *args, **kwargs)
        return torch.cat([metric(block, *args, **kwargs) for block in query_blocks(counts)])

    return blocked
