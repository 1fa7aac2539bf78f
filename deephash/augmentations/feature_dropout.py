"""Features left out at random."""

from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.validation import check_choice, check_fraction

REPLACEMENTS = ("zero", "mean")


@final
class FeatureDropout(Augmentation):
    """Sets each feature of each item to 0 with the same probability, as in a denoising autoencoder's input.

    Unlike dropout, it does not enlarge what is left: a missing feature is a kind of item that training should meet.
    Known weakness: 0 means "absent" for counts and kernel values; for features far from 0 it is a value as any other,
    and a far one, so that all projections shift. The mean over the batch in its place leaves them where they are.

    Shape:
        features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d.
        share: probability that a feature is left out; 0.1, the least of the shares of the paper.
        replacement: what stands in its place: "zero" as in the paper, or "mean", the feature's over the batch.

    Raises:
        InvalidInputError: a share that is not in [0, 1], or another replacement.

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
        """Features, some of them 0 or the batch's mean."""
        dropped = torch.rand_like(features) < self.share
        if self.replacement == "zero" or not len(features):
            return features.masked_fill(dropped, 0.0)
        return torch.where(dropped, features.mean(0), features)
