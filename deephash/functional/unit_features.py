"""Features of unit length around a centre for online methods, so that one step size suits all data."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

# Above this magnitude, sums of squares approach the largest number of single precision.
LARGE = 1e15


def unit_features(features: Tensor, mean: Tensor) -> Tensor:
    """Compute (x - μ) / ‖x - μ‖ of each row, in the dtype of μ; 0 if x = μ.

    Args:
        features: floating (n, d).
        mean: (d,).

    Returns:
        (n, d), differentiable in both.
    """
    centred = features.to(mean.dtype) - mean
    # Rows whose squares would overflow, such as large counts, are first scaled to near 1; all others keep their bits.
    # Every export format supports these operations.
    largest = centred.detach().abs().amax(1, keepdim=True)
    centred = centred / torch.where(largest > LARGE, largest, torch.ones_like(largest))
    return normalize(centred, eps=torch.finfo(mean.dtype).tiny ** 0.5)


def random_unit_directions(d: int, k: int, generator: torch.Generator) -> Tensor:
    """Draw Gaussian directions scaled to unit length, float64 (d, k), as LSH does: the start of online methods.

    Args:
        d: dimension of the directions.
        k: number of directions.
        generator: CPU generator of the draw.
    """
    return normalize(torch.randn(d, k, generator=generator, dtype=torch.float64), dim=0)
