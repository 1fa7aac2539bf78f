"""From regions between thresholds to bits: the encodings that multi-bit quantisers share.

T thresholds cut a dimension into T + 1 regions, numbered from 0; a projection that equals a threshold lies above it.
An encoding is a bool table (T + 1, q), on the CPU, with the q bits of each region. A code holds the q bits of
dimension 0 first.
"""

import torch
from torch import Tensor

# Up to this many thresholds of a dimension, comparing with each is faster than a binary search and a look-up.
FEW_THRESHOLDS = 31


def single_bit_encoding() -> Tensor:
    """One threshold, regions 0 and 1 (SBQ): bool (2, 1)."""
    return torch.tensor([[False], [True]])


def double_bit_encoding() -> Tensor:
    """Two thresholds, regions 01, 00, 10 (DBQ; Kong & Li, AAAI 2012): Hamming distance is the difference of regions.

    Returns:
        bool (3, 2).
    """
    return torch.tensor([[False, True], [False, False], [True, False]])


def hierarchical_encoding() -> Tensor:
    """Three thresholds, regions 01, 00, 10, 11 (HQ; Liu et al., ICML 2011): the side, then whether it is far from 0.

    Neighbouring regions differ in one bit, and so do the two outermost ones.

    Returns:
        bool (4, 2).
    """
    return torch.tensor([[False, True], [False, False], [True, False], [True, True]])


def natural_binary_encoding(bits: int) -> Tensor:
    """2^q - 1 thresholds, each region's number in binary, least significant bit first (MHQ; Kong, Li & Guo, 2012).

    Args:
        bits: q.

    Returns:
        bool (2^q, q).

    Example:
        >>> natural_binary_encoding(2).int()
        tensor([[0, 0],
                [1, 0],
                [0, 1],
                [1, 1]], dtype=torch.int32)
    """
    return (torch.arange(1 << bits)[:, None] >> torch.arange(bits)) % 2 == 1


def region_numbers(projections: Tensor, thresholds: Tensor) -> Tensor:
    """How many thresholds of its dimension each projection reaches.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.

    Returns:
        int64 (n, k), from 0 to T.
    """
    dtype = torch.promote_types(projections.dtype, thresholds.dtype)
    ordered = thresholds.to(dtype).sort(1).values
    return torch.searchsorted(ordered, projections.to(dtype).T.contiguous(), right=True).T


def encoded_bits(projections: Tensor, thresholds: Tensor, encoding: Tensor) -> Tensor:
    """The bits of the regions that projections lie in.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.
        encoding: bool (T + 1, q).

    Returns:
        bool (n, k·q), dimension by dimension.
    """
    if thresholds.shape[1] > FEW_THRESHOLDS:
        return encoding.to(projections.device)[region_numbers(projections, thresholds)].flatten(1)
    reached = [projections >= threshold for threshold in thresholds.sort(1).values.unbind(1)]
    bits = torch.empty(*projections.shape, encoding.shape[1], dtype=torch.bool, device=projections.device)
    for j, (first, flips) in enumerate(bit_flips(encoding)):
        # Beyond a threshold at which the bit flips it is the other one, so a bit is the parity of those reached.
        parity = reached[flips[0]]
        for flip in flips[1:]:
            parity = parity ^ reached[flip]
        bits[..., j] = ~parity if first else parity
    return bits.flatten(1)


def bit_margins(projections: Tensor, thresholds: Tensor, encoding: Tensor) -> Tensor:
    """Each bit's distance from the nearest threshold at which it flips, negative where the bit is 0.

    A margin is that of a single threshold near each of a bit's thresholds, so relaxations apply to it as they do to one
    bit a dimension; between two thresholds it rises and falls with slope 1. A bit 0 at its very threshold has the
    least negative margin, so that margin >= 0 is the bit everywhere.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.
        encoding: bool (T + 1, q).

    Returns:
        (n, k·q), dimension by dimension, differentiable in projections and thresholds.
    """
    differences = projections[..., None] - thresholds.sort(1).values
    bits = encoded_bits(projections.detach(), thresholds.detach(), encoding)
    bits = bits.view(*projections.shape, encoding.shape[1])
    distances = [differences[..., flips].abs().amin(-1) for _, flips in bit_flips(encoding)]
    distance = torch.stack(distances, -1)
    least = torch.finfo(distance.dtype).tiny
    return torch.where(bits, distance, -distance.clamp_min(least)).flatten(1)


def step_margins(projections: Tensor, thresholds: Tensor) -> Tensor:
    """Distance of each projection from each of its thresholds, negative below it: a region's number in unary.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.

    Returns:
        (n, k·T), dimension by dimension, thresholds in rising order; differentiable in both.
    """
    return (projections[..., None] - thresholds.sort(1).values).flatten(1)


def threshold_between(lower: Tensor, upper: Tensor) -> Tensor:
    """Thresholds halfway between two values, rounded so that the lower one stays below its own.

    Args:
        lower: floating, the largest value of one region.
        upper: of the same shape, above `lower`, the least value of the next.

    Returns:
        The same shape; lower < threshold <= upper.
    """
    halfway = lower + (upper - lower) / 2
    return torch.where(halfway > lower, halfway, upper)


def bit_flips(encoding: Tensor) -> list[tuple[bool, list[int]]]:
    """Each bit's value in region 0, and the thresholds at which it changes."""
    changes = encoding[1:] != encoding[:-1]
    return [(bool(encoding[0, j]), torch.nonzero(changes[:, j]).flatten().tolist()) for j in range(encoding.shape[1])]
