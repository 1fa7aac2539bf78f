"""Encodings of the regions between thresholds as bits, shared by the multi-bit quantisers.

T thresholds cut a projection into T + 1 regions, numbered from 0; a value equal to a threshold lies above it. An
encoding is a bool table (T + 1, q), on the CPU, with the q bits of each region. A code holds the q bits of projection 0
first.
"""

import torch
from torch import Tensor

# Up to this many thresholds, comparing with each is faster than a binary search and a look-up.
FEW_THRESHOLDS = 31


def double_bit_encoding() -> Tensor:
    """Return the encoding 01, 00, 10 of two thresholds (DBQ; Kong & Li, AAAI 2012), bool (3, 2).

    The Hamming distance of two codes is the difference of their regions' numbers.
    """
    return torch.tensor([[False, True], [False, False], [True, False]])


def hierarchical_encoding() -> Tensor:
    """Return the encoding 01, 00, 10, 11 of three thresholds (HQ; Liu et al., ICML 2011), bool (4, 2).

    The first bit is the side of 0, the second whether the value is far from 0. Neighbouring regions differ in one bit,
    and so do the two outermost ones.
    """
    return torch.tensor([[False, True], [False, False], [True, False], [True, True]])


def natural_binary_encoding(bits: int) -> Tensor:
    """Return each region's number in binary, least significant bit first (MHQ; Kong, Li & Guo, 2012).

    Args:
        bits: q, for 2^q - 1 thresholds.

    Returns:
        bool (2^q, q).

    Examples:
        >>> natural_binary_encoding(2).int()
        tensor([[0, 0],
                [1, 0],
                [0, 1],
                [1, 1]], dtype=torch.int32)
    """
    return (torch.arange(1 << bits)[:, None] >> torch.arange(bits)) % 2 == 1


def region_numbers(projections: Tensor, thresholds: Tensor) -> Tensor:
    """Count the thresholds that each projection reaches.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.

    Returns:
        int64 (n, k), from 0 to T.
    """
    dtype = torch.promote_types(projections.dtype, thresholds.dtype)
    ordered = thresholds.to(dtype).sort(1).values
    return torch.searchsorted(ordered, projections.to(dtype).T.contiguous(), right=True).T


def encode_regions(projections: Tensor, thresholds: Tensor, encoding: Tensor) -> Tensor:
    """Return the bits of the regions that projections lie in.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.
        encoding: bool (T + 1, q).

    Returns:
        bool (n, k·q), projection by projection.
    """
    if thresholds.shape[1] > FEW_THRESHOLDS:
        return encoding.to(projections.device)[region_numbers(projections, thresholds)].flatten(1)
    reached = [projections >= threshold for threshold in thresholds.sort(1).values.unbind(1)]
    bits = torch.empty(*projections.shape, encoding.shape[1], dtype=torch.bool, device=projections.device)
    for j, (first, flips) in enumerate(bit_flips(encoding)):
        # A bit flips at each threshold that is reached, so it is the parity of their number.
        parity = reached[flips[0]]
        for flip in flips[1:]:
            parity = parity ^ reached[flip]
        bits[..., j] = ~parity if first else parity
    return bits.flatten(1)


def bit_margins(projections: Tensor, thresholds: Tensor, encoding: Tensor) -> Tensor:
    """Compute each bit's distance from the nearest threshold at which it flips, negative if the bit is 0.

    Near each threshold of a bit, its margin is that of a single threshold, so relaxations apply as for one bit per
    projection; between two thresholds it rises and falls with slope 1. A bit that is 0 exactly at its threshold has the
    negative margin nearest to 0, so that margin >= 0 always equals the bit.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.
        encoding: bool (T + 1, q).

    Returns:
        (n, k·q), projection by projection, differentiable in projections and thresholds.
    """
    differences = projections[..., None] - thresholds.sort(1).values
    bits = encode_regions(projections.detach(), thresholds.detach(), encoding)
    bits = bits.view(*projections.shape, encoding.shape[1])
    distances = [differences[..., flips].abs().amin(-1) for _, flips in bit_flips(encoding)]
    distance = torch.stack(distances, -1)
    least = torch.finfo(distance.dtype).tiny
    return torch.where(bits, distance, -distance.clamp_min(least)).flatten(1)


def step_margins(projections: Tensor, thresholds: Tensor) -> Tensor:
    """Compute each projection's distance from each of its thresholds, negative below it: a region's number in unary.

    Args:
        projections: floating (n, k).
        thresholds: (k, T), in any order.

    Returns:
        (n, k·T), projection by projection, thresholds in ascending order; differentiable in both.
    """
    return (projections[..., None] - thresholds.sort(1).values).flatten(1)


def threshold_between(lower: Tensor, upper: Tensor) -> Tensor:
    """Return thresholds halfway between two values, rounded so that the lower value stays below its threshold.

    Args:
        lower: floating, the largest value of one region.
        upper: the same shape, above `lower`, the smallest value of the next region.

    Returns:
        The same shape; lower < threshold <= upper.
    """
    halfway = lower + (upper - lower) / 2
    return torch.where(halfway > lower, halfway, upper)


def bit_flips(encoding: Tensor) -> list[tuple[bool, list[int]]]:
    """Return each bit's value in region 0, and the thresholds at which it changes."""
    changes = encoding[1:] != encoding[:-1]
    return [(bool(encoding[0, j]), torch.nonzero(changes[:, j]).flatten().tolist()) for j in range(encoding.shape[1])]
