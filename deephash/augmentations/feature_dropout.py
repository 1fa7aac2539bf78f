"""Random removal of features."""

from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.validation import check_choice, check_fraction

REPLACEMENTS = ("zero", "mean")


@final
class FeatureDropout(Augmentation):
    """Replacement of each feature of each item with a given probability, as in a denoising autoencoder.

    Unlike dropout, it does not enlarge the other features: training uses items with missing features as they are.

    Known weakness: 0 means "absent" for counts and kernel values, but for features far from 0 it is an extreme value
    that shifts all projections. The mean over the batch as a replacement avoids this.

    Shape:
        features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d.
        share: probability that a feature is replaced. The default of 0.1 is the smallest in the paper.
        replacement: "zero" as in the paper, or "mean" for the mean of the feature over the batch.

    Raises:
        InvalidInputError: share is not in [0, 1], or the replacement is unknown.

    References:
        Vincent, Larochelle, Bengio & Manzagol, "Extracting and composing robust features with denoising autoencoders",
        ICML 2008.
    """

    def __init__(self, input_dim: int, share: float = 0.1, replacement: str = "zero") -> None:
        super().__init__(input_dim)
        check_fraction(share, "share")
        check_choice(replacement, REPLACEMENTS, "replacement")
        self.share = share
        self.replacement = replacement

    def change(self, features: Tensor) -> Tensor:
        """Return features, some of them replaced."""
        dropped = torch.rand_like(features) < self.share
        if self.replacement == "zero" or not len(features):
            return features.masked_fill(dropped, 0.0)
        return torch.where(dropped, features.mean(0), features)
