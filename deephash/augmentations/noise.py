"""Gaussian noise on every feature."""

from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.validation import check_positive


@final
class Noise(Augmentation):
    """Adds to each feature normal noise in proportion to that feature's standard deviation over the batch.

    Known weakness: it takes features for independent, so the noise also leaves the directions in which data lie. A
    batch of one item has no deviation, and stays as it is.

    Shape:
        features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d.
        scale: standard deviation of the noise over that of the feature; 0.1 leaves neighbours neighbours.

    Raises:
        InvalidInputError: a scale not above 0.

    References:
        Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 7(1), 1995.
    """

    def __init__(self, input_dim: int, scale: float = 0.1) -> None:
        super().__init__(input_dim)
        check_positive(scale, "scale")
        self.scale = scale

    def change(self, features: Tensor) -> Tensor:
        """Features and noise."""
        if len(features) == 0:
            return features
        deviation = features.std(0, correction=0)
        return features + self.scale * deviation * torch.randn_like(features)
