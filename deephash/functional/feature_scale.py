"""Where each feature lies and how far it spreads."""

import torch
from torch import Tensor


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, float64; 1 for the deviation of one that is constant.

    Args:
        features: floating (n, d).
    """
    mean = features.mean(0, dtype=torch.float64)
    # The mean of many equal values may miss them by a rounding, which would make a deviation of it.
    constant = features.amin(0) == features.amax(0)
    deviation = (features.double() - mean).square().mean(0).sqrt()
    return mean, deviation.masked_fill(constant, 1.0)
