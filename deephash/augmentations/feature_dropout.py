"""Features set to zero at random."""

from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.validation import check_fraction


@final
class FeatureDropout(Augmentation):
    """Sets each feature of each item to 0 with the same probability, as in a denoising autoencoder's input.

    Unlike dropout, it does not enlarge what is left: a missing feature is a kind of item that training should meet.
    Known weakness: 0 means "absent" for counts, kernel values and energies such as GIST's; for features far from 0,
    such as coordinates, it is a value as any other, and a far one.

    Shape:
        features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d.
        share: probability of 0; 0.1, the least of the shares of the paper.

    Raises:
        InvalidInputError: a share that is not in [0, 1].

    References:
        Vincent, Larochelle, Bengio & Manzagol, "Extracting and composing robust features with denoising autoencoders",
        ICML 2008.
    """

    def __init__(self, input_dim: int, share: float = 0.1) -> None:
        super().__init__(input_dim)
        check_fraction(share, "share")
        self.share = share

    def change(self, features: Tensor) -> Tensor:
        """Features, some of them 0."""
        return features.masked_fill(torch.rand_like(features) < self.share, 0.0)
