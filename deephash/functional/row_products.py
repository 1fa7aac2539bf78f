"""Products of two tall matrices, in blocks of rows."""

import torch
from torch import Tensor

from deephash.functional.principal_components import BLOCK_ROWS
from deephash.functional.row_shares import sum_over_processes


def row_products(first: Tensor, second: Tensor) -> Tensor:
    """Xᵀ Y, with blocks of rows added up in float64, over the rows of all processes.

    Args:
        first: X, floating (n, d).
        second: Y (n, e), converted to the dtype of X.

    Returns:
        float64 (d, e).
    """
    sums = torch.zeros(first.shape[1], second.shape[1], dtype=torch.float64, device=first.device)
    for x, y in zip(torch.split(first, BLOCK_ROWS), torch.split(second, BLOCK_ROWS), strict=True):
        sums += x.T @ y.to(x.dtype)
    return sum_over_processes(sums)
