"""Second moments of two views of the same items: sufficient for linear methods that weigh all pairs equally."""

import torch
from torch import Tensor

from deephash.functional.principal_components import BLOCK_ROWS, feature_mean
from deephash.functional.row_shares import count_rows, sum_over_processes


def pair_covariances(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the means of two views and the covariance of their concatenated rows, in blocks.

    Args:
        first: X, floating (n, d).
        second: Y, floating (n, e); row i of both views is one item.

    Returns:
        Means float64 (d,) and (e,); and [C_xx C_xy; C_yx C_yy], float64 (d + e, d + e) with divisor n.
    """
    means = feature_mean(first), feature_mean(second)
    sides = first.shape[1] + second.shape[1]
    joint = torch.zeros(sides, sides, dtype=torch.float64, device=first.device)
    for x, y in zip(torch.split(first, BLOCK_ROWS), torch.split(second, BLOCK_ROWS), strict=True):
        rows = torch.cat([x.double() - means[0], y.double() - means[1]], 1)
        joint += rows.T @ rows
    return means[0], means[1], sum_over_processes(joint) / count_rows(first)
