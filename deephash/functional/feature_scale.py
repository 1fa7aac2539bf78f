"""Location and spread of each feature."""

from typing import Self, final

import torch
from torch import Tensor, nn


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of each feature, float64; the deviation of a constant feature is 1.

    Args:
        features: floating (n, d).
    """
    mean = features.mean(0, dtype=torch.float64)
    # Rounding of the mean of many equal values would look like a deviation.
    constant = features.amin(0) == features.amax(0)
    deviation = (features.double() - mean).square().mean(0).sqrt()
    return mean, deviation.masked_fill(constant, 1.0)


def take_signed_roots(features: Tensor) -> Tensor:
    """Return the square roots of the magnitudes with the signs of the features, of any shape.

    The gradient at 0 is 0, not infinite.

    Args:
        features: floating.
    """
    return features.sign() * features.abs().clamp(min=torch.finfo(features.dtype).tiny).sqrt()


@final
class Standardisation(nn.Module):
    """Features minus their means, divided by their standard deviations.

    Shape:
        (n, d) → (n, d), in the dtype of the means.

    Args:
        input_dim: feature dimension d.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("deviation", torch.ones(input_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise features."""
        return (features.to(self.mean.dtype) - self.mean) / self.deviation

    @torch.no_grad()
    def fit(self, features: Tensor) -> Self:
        """Measure means and deviations of the training items."""
        mean, deviation = mean_and_deviation(features)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        return self
