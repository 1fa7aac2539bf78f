"""The mathematics of GIST: transfer functions, and linear maps along an axis of pixels as small matrices.

Formulae of A. Oliva and A. Torralba's LMgist, the code of their paper in IJCV 42(3), 2001.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def mirrored_pixels(size: int, before: int, after: int) -> Tensor:
    """Return the pixels of an axis of `size` pixels with mirrored borders, the edge pixel repeated.

    Returns:
        int64 (before + size + after,), from 0 to size − 1.
    """
    position = torch.arange(-before, size + after).remainder(2 * size)
    return torch.where(position < size, position, 2 * size - 1 - position)


def frequencies(n: int) -> Tensor:
    """Cycles per n pixels of the discrete Fourier transform, ascending, zero at n // 2: float64 (n,)."""
    return torch.arange(n, dtype=torch.float64) - n // 2


def fourier_matrix(n: int) -> Tensor:
    """The discrete Fourier transform of n pixels, rows in the order of `frequencies`: complex128 (n, n)."""
    phase = torch.outer(frequencies(n), torch.arange(n, dtype=torch.float64)) / n
    return torch.exp(-2j * math.pi * phase)


def transfer_functions(n: int, orientations_per_scale: Sequence[int]) -> Tensor:
    """Gabor-like transfer functions, real and one-sided, from the finest scale to the coarsest.

    For the frequency (r, θ) in polar coordinates, and orientation j of the o orientations of scale i:
    exp(−3.5 (r / (0.3 n / 1.85^i) − 1)² − 2π (o²/64) (θ + π j / o)²).

    Args:
        n: side of the bordered image in pixels.
        orientations_per_scale: number of orientations o of each scale.

    Returns:
        float64 (filters, n, n), rows vertical and columns horizontal frequencies in the order of `frequencies`.
    """
    axis = frequencies(n)
    radius = torch.hypot(axis[:, None], axis[None, :])
    angle = torch.atan2(axis[:, None].expand(n, n), axis[None, :].expand(n, n))
    filters = []
    for scale, orientations in enumerate(orientations_per_scale):
        radial = -3.5 * (radius / (0.3 * n / 1.85**scale) - 1) ** 2
        for orientation in range(orientations):
            turned = angle + math.pi * orientation / orientations
            turned = torch.where(turned > math.pi, turned - 2 * math.pi, turned)
            filters.append(torch.exp(radial - 2 * math.pi * orientations**2 / 64 * turned**2))
    return torch.stack(filters)


def low_pass_matrix(n: int, cutoff: float) -> Tensor:
    """Gaussian low pass of n pixels, half amplitude at `cutoff` cycles, as a real circulant matrix: float64 (n, n)."""
    gain = torch.exp(-(frequencies(n) ** 2) * math.log(2) / cutoff**2)
    fourier = fourier_matrix(n)
    return (fourier.conj().T @ (gain[:, None] * fourier)).real / n


def block_averages(size: int, blocks: int) -> Tensor:
    """Return a matrix of averages over runs of pixels, whose lengths differ by at most one: float32 (blocks, size)."""
    edges = [size * i // blocks for i in range(blocks + 1)]
    averages = torch.zeros(blocks, size)
    for i, (first, last) in enumerate(pairwise(edges)):
        averages[i, first:last] = 1 / (last - first)
    return averages


def on_both_sides(matrix: Tensor, stack: Tensor) -> Tensor:
    """A X Aᵀ for every image X = stack[:, i, :] and A of shape (a, h), with h = w: (h, n, w) → (a, n, a)."""
    height, n, width = stack.shape
    left = (matrix @ stack.reshape(height, n * width)).view(-1, width)
    return (left @ matrix.T).view(len(matrix), n, len(matrix))
