"""Gaussian noise on every feature."""

from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.validation import check_positive


@final
class Noise(Augmentation):
    """Normal noise on each feature, in proportion to its standard deviation over the batch.

    Known weakness: it treats features as independent, so the noise also leaves the subspace in which data lie. In a
    batch of one item the deviation is 0, and the item does not change.

    Shape:
        features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d.
        scale: standard deviation of the noise divided by that of the feature; at 0.1 neighbours stay neighbours.

    Raises:
        InvalidInputError: scale is not above 0.

    References:
        Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 7(1), 1995.
    """

    def __init__(self, input_dim: int, scale: float = 0.1) -> None:
        super().__init__(input_dim)
        check_positive(scale, "scale")
        self.scale = scale

    def change(self, features: Tensor) -> Tensor:
        """Return features plus noise."""
        if len(features) == 0:
            return features
        deviation = features.std(0, correction=0)
        return features + self.scale * deviation * torch.randn_like(features)
