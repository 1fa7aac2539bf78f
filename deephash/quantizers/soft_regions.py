"""J of NPQ with soft regions, so that gradients reach thresholds and values.

A value belongs partly to each region of its projection. Its membership in the region between thresholds s and t is the
difference of the sigmoids of its margins from s and t. As the temperature falls to 0, memberships become 0 and 1, and
F1 and the share of variance become those of `NeighbourhoodObjective`. Leading axes are batch axes.
"""

import torch
from torch import Tensor


def soft_regions(values: Tensor, thresholds: Tensor, temperature: float | Tensor) -> Tensor:
    """Compute the membership of each value in each region between thresholds.

    Args:
        values: floating (..., n).
        thresholds: (..., T), in any order, with the same leading axes; infinity for an unused threshold.
        temperature: temperature of the sigmoids, above 0, in the unit of the values; a tensor has the leading axes, or
            none.

    Returns:
        (..., n, T + 1), lowest region first, each >= 0 and of sum 1; differentiable in values and thresholds.
    """
    margins = values[..., None] - thresholds.sort(-1).values[..., None, :]
    reached = (margins / torch.as_tensor(temperature).to(margins)[..., None, None]).sigmoid()
    # Every value has reached -∞ and none has reached ∞.
    edges = torch.nn.functional.pad(torch.nn.functional.pad(reached, (1, 0), value=1.0), (0, 1), value=0.0)
    return edges[..., :-1] - edges[..., 1:]


def soft_f1(membership: Tensor, neighbours: Tensor) -> Tensor:
    """Compute F1 of predicting that the pairs in a common region are neighbours.

    Two items share a region with weight Σ_r m_r m'_r, the overlap of their memberships: the probability that both are
    in the same region if each is drawn by its memberships. With P pairs of neighbours, total weight c over all pairs
    and t over neighbours, F1 = 2t / (c + P), which is exact for hard regions.

    Args:
        membership: floating (..., n, R).
        neighbours: bool (n, n), symmetric; the diagonal is not read.

    Returns:
        (...), from 0 to 1, and 0 if no pair are neighbours; differentiable in the memberships.
    """
    pairs = neighbours.to(membership, copy=True).fill_diagonal_(0)
    # This is the only (n, n) matrix, for any batch axes; it counts each pair twice.
    matched = (membership * (pairs @ membership)).sum((-2, -1))
    together = membership.sum(-2).square().sum(-1) - membership.square().sum((-2, -1))
    return 2 * matched / (together + pairs.sum()).clamp_min(torch.finfo(membership.dtype).tiny)


def soft_explained_variance(values: Tensor, membership: Tensor) -> Tensor:
    """Compute 1 - Ω, the share of the squared distance from the mean that lies between the means of regions.

    Args:
        values: floating (..., n).
        membership: (..., n, R).

    Returns:
        (...), from 0 to 1, and 0 if all values are equal; differentiable in both.
    """
    # Rounding of the mean of many equal values would look like variance.
    varies = (values != values[..., :1]).any(-1, keepdim=True)
    centred = (values - values.mean(-1, keepdim=True)) * varies
    sums = (membership * centred[..., None]).sum(-2)
    # A region without members adds 0.
    between = (sums.square() / membership.sum(-2).clamp_min(torch.finfo(values.dtype).eps)).sum(-1)
    scatter = centred.square().sum(-1)
    return between / torch.where(scatter > 0, scatter, 1.0)
