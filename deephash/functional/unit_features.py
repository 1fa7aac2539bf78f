"""Features of unit length around a centre: what online methods take, so that one step size serves all data."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

# Beyond it, sums of squares come near the largest number of single precision.
LARGE = 1e15


def unit_features(features: Tensor, mean: Tensor) -> Tensor:
    """(x - μ) / ‖x - μ‖ of each row, in the dtype of μ; 0 where x = μ.

    Args:
        features: floating (n, d).
        mean: (d,).

    Returns:
        (n, d), differentiable in both.
    """
    # Coordinates of raw pixels or counts can be large, so that squares of single precision stay in range.
    centred = features.to(mean.dtype) - mean
    # Rows whose squares would overflow are brought near 1 first; all others stay as they are, bit for bit. It takes
    # operations that every export format has.
    largest = centred.detach().abs().amax(1, keepdim=True)
    centred = centred / torch.where(largest > LARGE, largest, torch.ones_like(largest))
    return normalize(centred, eps=torch.finfo(mean.dtype).tiny ** 0.5)


def random_unit_directions(d: int, k: int, generator: torch.Generator) -> Tensor:
    """Gaussian directions scaled to unit length, float64 (d, k): the start of online methods, as LSH's.

    Args:
        d: their dimension.
        k: their number.
        generator: CPU generator of the draw.
    """
    return normalize(torch.randn(d, k, generator=generator, dtype=torch.float64), dim=0)
