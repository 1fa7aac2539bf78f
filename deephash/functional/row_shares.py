"""Sums over the rows that several processes share, from which each process solves for the same weights.

Outside `row_shares` a process has all rows, and its sums are the totals.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed

_shared: ContextVar[bool] = ContextVar("rows are shared", default=False)


@contextmanager
def row_shares() -> Iterator[None]:
    """Within this context, the rows passed to a fit are this process's share of all rows.

    All processes of torch.distributed's group must fit the same method, each on its own rows, in the order of their
    ranks. If shares begin at multiples of `principal_components.BLOCK_ROWS`, results differ from those of one process
    only by float64 rounding of sums of blocks.
    """
    before = _shared.set(True)
    try:
        yield
    finally:
        _shared.reset(before)


def rows_are_shared() -> bool:
    """Return whether other processes have rows too."""
    return _shared.get()


def sum_over_processes(sums: Tensor) -> Tensor:
    """Sum tensors over all processes, identically on each; return the tensor itself if rows are not shared."""
    return _reduce(sums, distributed.ReduceOp.SUM) if rows_are_shared() else sums


def min_over_processes(values: Tensor) -> Tensor:
    """Return the minimum over all processes, entry by entry."""
    return _reduce(values, distributed.ReduceOp.MIN) if rows_are_shared() else values


def max_over_processes(values: Tensor) -> Tensor:
    """Return the maximum over all processes, entry by entry."""
    return _reduce(values, distributed.ReduceOp.MAX) if rows_are_shared() else values


def broadcast_first(values: Tensor) -> Tensor:
    """Return the first process's values on every process, for values that may differ by rounding."""
    if not rows_are_shared():
        return values
    result = values.clone(memory_format=torch.contiguous_format)
    distributed.broadcast(result, src=0)
    return result


def local_rows(features: Tensor) -> slice:
    """Return the positions of this process's rows among all rows, which follow the order of the processes."""
    if not rows_are_shared():
        return slice(0, len(features))
    lengths = torch.zeros(distributed.get_world_size(), dtype=torch.int64, device=features.device)
    lengths[distributed.get_rank()] = len(features)
    start = int(sum_over_processes(lengths)[: distributed.get_rank()].sum())
    return slice(start, start + len(features))


def gather_rows(features: Tensor, places: Tensor) -> Tensor:
    """Return rows by their positions among those of all processes, on every process.

    Args:
        features: (n, d), this process's rows.
        places: int64 (m,), the same on each process.

    Returns:
        (m, d).
    """
    places = places.to(features.device)
    if not rows_are_shared():
        return features[places]
    local = local_rows(features)
    is_local = (places >= local.start) & (places < local.stop)
    rows = torch.zeros(len(places), features.shape[1], dtype=features.dtype, device=features.device)
    rows[is_local] = features[places[is_local] - local.start]
    return sum_over_processes(rows)


def concatenate_rows(values: Tensor) -> Tensor:
    """Concatenate the values (m,) of all processes, on each of them; m may differ between processes."""
    if not rows_are_shared():
        return values
    joined = values.new_zeros(count_rows(values))
    joined[local_rows(values)] = values
    return sum_over_processes(joined)


def count_rows(features: Tensor) -> int:
    """Count the rows n of all processes."""
    if not rows_are_shared():
        return len(features)
    return int(sum_over_processes(torch.tensor(len(features), device=features.device)))


def _reduce(values: Tensor, operation: distributed.ReduceOp.RedOpType) -> Tensor:
    result = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(result, operation)
    return result
