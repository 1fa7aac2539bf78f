"""Rows that several processes share: sums over all of them, from which each solves for the same weights.

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
    """Within it, the rows that a fit is given are this process's share of all.

    All processes of torch.distributed's group must fit the same method, each on rows of its own, in the order of their
    ranks. Where shares begin at blocks of `principal_components.BLOCK_ROWS`, results differ from those of one process
    by float64's rounding of sums of blocks.
    """
    before = _shared.set(True)
    try:
        yield
    finally:
        _shared.reset(before)


def rows_are_shared() -> bool:
    """Whether other processes hold rows too."""
    return _shared.get()


def sum_over_processes(sums: Tensor) -> Tensor:
    """The sum of every process's sums, the same on each, bit for bit; the given tensor where rows are not shared."""
    return _reduced(sums, distributed.ReduceOp.SUM) if rows_are_shared() else sums


def min_over_processes(values: Tensor) -> Tensor:
    """The least of every process's values, entry by entry."""
    return _reduced(values, distributed.ReduceOp.MIN) if rows_are_shared() else values


def max_over_processes(values: Tensor) -> Tensor:
    """The greatest of every process's values, entry by entry."""
    return _reduced(values, distributed.ReduceOp.MAX) if rows_are_shared() else values


def broadcast_first(values: Tensor) -> Tensor:
    """The first process's values on every process: of what rounding may make differ from one to the next."""
    if not rows_are_shared():
        return values
    result = values.clone(memory_format=torch.contiguous_format)
    distributed.broadcast(result, src=0)
    return result


def local_rows(features: Tensor) -> slice:
    """The places of this process's rows among all, which stand in the order of the processes."""
    if not rows_are_shared():
        return slice(0, len(features))
    lengths = torch.zeros(distributed.get_world_size(), dtype=torch.int64, device=features.device)
    lengths[distributed.get_rank()] = len(features)
    start = int(sum_over_processes(lengths)[: distributed.get_rank()].sum())
    return slice(start, start + len(features))


def gather_rows(features: Tensor, places: Tensor) -> Tensor:
    """Rows by their places among those of all processes, on every process.

    Args:
        features: (n, d), this process's rows.
        places: int64 (m,), the same on each.

    Returns:
        (m, d).
    """
    places = places.to(features.device)
    if not rows_are_shared():
        return features[places]
    own = local_rows(features)
    held = (places >= own.start) & (places < own.stop)
    rows = torch.zeros(len(places), features.shape[1], dtype=features.dtype, device=features.device)
    rows[held] = features[places[held] - own.start]
    return sum_over_processes(rows)


def concatenate_rows(values: Tensor) -> Tensor:
    """Values (m,) of every process, one after another, on each; m may differ from process to process."""
    if not rows_are_shared():
        return values
    own = local_rows(values)
    joined = values.new_zeros(count_rows(values))
    joined[own] = values
    return sum_over_processes(joined)


def count_rows(features: Tensor) -> int:
    """Number of rows n of all processes."""
    if not rows_are_shared():
        return len(features)
    return int(sum_over_processes(torch.tensor(len(features), device=features.device)))


def _reduced(values: Tensor, operation: distributed.ReduceOp.RedOpType) -> Tensor:
    result = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(result, operation)
    return result
