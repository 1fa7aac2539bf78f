"""Draws of the rows of a stream: its queries, and the items that are never learnt from."""

import torch
from torch import Tensor


def draw_withheld(count: int, pool: Tensor, share: float, seed: int) -> Tensor:
    """Draw the rows of a data set that are never learnt from.

    The draw is over rows, not over arrivals: a withheld row stays withheld if it arrives several times.

    Args:
        count: number of rows N of the data set.
        pool: int64 (p,), rows that may arrive.
        share: fraction of the pool to withhold.
        seed: seed of the draw.

    Returns:
        bool (N,).
    """
    withheld = torch.zeros(count, dtype=torch.bool)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    withheld[pool[order[: round(share * len(pool))]]] = True
    return withheld


def draw_balanced(labels: Tensor, rows: Tensor, at_most: int, seed: int) -> Tensor:
    """Draw rows at random, the same number of each class; items with several labels are drawn regardless of class.

    Args:
        labels: int64 (n,) or bool (n, c).
        rows: int64, rows to draw from.
        at_most: maximum number of rows.
        seed: seed of the draw.

    Returns:
        int64, ascending.
    """
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    if labels.ndim == 1:
        by_class = [rows[labels[rows] == label] for label in torch.unique(labels[rows]).tolist()]
        rows = torch.cat([part[: max(1, at_most // len(by_class))] for part in by_class])
    return rows[:at_most].sort().values
