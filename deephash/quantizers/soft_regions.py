"""J of NPQ with soft regions, so that gradients reach thresholds and values.

A value belongs to each region of its dimension in part: to the one between thresholds s and t by the difference of the
sigmoids of its margins from s and t. As the temperature falls to 0 the memberships become 0 and 1, and F1 and the share
of variance those of `NeighbourhoodObjective`. Leading axes, as one of dimensions, are carried along.
"""

import torch
from torch import Tensor


def soft_regions(values: Tensor, thresholds: Tensor, temperature: float | Tensor) -> Tensor:
    """How much of each value lies in each of the regions between thresholds.

    Args:
        values: floating (..., n).
        thresholds: (..., T), in any order, with the same leading axes; infinity for one that is not used.
        temperature: of the sigmoids, above 0, in the unit of the values; a tensor has the leading axes, or none.

    Returns:
        (..., n, T + 1), lowest region first, each >= 0 and of sum 1; differentiable in values and thresholds.
    """
    margins = values[..., None] - thresholds.sort(-1).values[..., None, :]
    reached = (margins / torch.as_tensor(temperature).to(margins)[..., None, None]).sigmoid()
    # Every value has reached -∞ and none has reached ∞.
    edges = torch.nn.functional.pad(torch.nn.functional.pad(reached, (1, 0), value=1.0), (0, 1), value=0.0)
    return edges[..., :-1] - edges[..., 1:]


def soft_f1(membership: Tensor, neighbours: Tensor) -> Tensor:
    """F1 of the pairs in a common region, as a guess at which pairs are neighbours.

    Two items are in a common region as far as their memberships overlap, Σ_r m_r m'_r: the chance that both are in the
    same one, were each drawn by its memberships. With P pairs of neighbours, pairs that overlap by c in all and
    neighbours by t, F1 = 2t / (c + P), which for hard regions is exact.

    Args:
        membership: floating (..., n, R).
        neighbours: bool (n, n), symmetric; the diagonal is not read.

    Returns:
        (...), from 0 to 1, and 0 where there is no pair of neighbours; differentiable in the memberships.
    """
    pairs = neighbours.to(membership, copy=True).fill_diagonal_(0)
    # Of (n, n) there is this one matrix, however many dimensions are carried along; each pair counts twice in it.
    found = (membership * (pairs @ membership)).sum((-2, -1))
    held = membership.sum(-2).square().sum(-1) - membership.square().sum((-2, -1))
    return 2 * found / (held + pairs.sum()).clamp_min(torch.finfo(membership.dtype).tiny)


def soft_explained_variance(values: Tensor, membership: Tensor) -> Tensor:
    """1 - Ω, the share of the squared distance from the mean that lies between the means of regions.

    Args:
        values: floating (..., n).
        membership: (..., n, R).

    Returns:
        (...), from 0 to 1, and 0 where all values are the same; differentiable in both.
    """
    # The mean of many equal values may miss them by a rounding, which would make a variance of it.
    varies = (values != values[..., :1]).any(-1, keepdim=True)
    centred = (values - values.mean(-1, keepdim=True)) * varies
    sums = (membership * centred[..., None]).sum(-2)
    # A region without members adds nothing, whatever it is divided by.
    between = (sums.square() / membership.sum(-2).clamp_min(torch.finfo(values.dtype).eps)).sum(-1)
    scatter = centred.square().sum(-1)
    return between / torch.where(scatter > 0, scatter, 1.0)
