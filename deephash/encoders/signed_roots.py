"""Signed square roots of unit length, for features of pretrained networks."""

from typing import Self, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.encoders.base import Encoder
from deephash.functional.feature_scale import take_signed_roots
from deephash.validation import check_count


@final
class SignedRoots(Encoder):
    """Signed square roots of the features, scaled to unit length.

    Few features of a pretrained network are large for an image, and they dominate distances and linear maps. Square
    roots reduce their share. For non-negative features, the inner product of two outputs is the
    Bhattacharyya coefficient of the features' shares.

    Shape:
        features (n, d) → (n, d), rows of unit length; a row of zeros stays.

    Args:
        input_dim: feature dimension d.

    Raises:
        InvalidInputError: the dimension is below 1.

    References:
        Perronnin, Sánchez & Mensink, "Improving the Fisher kernel for large-scale image classification", ECCV 2010,
        Sections 3.1 and 3.2.
    """

    def __init__(self, input_dim: int) -> None:
        check_count(input_dim, "input_dim")
        super().__init__(input_dim, input_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return the roots, (n, d) → (n, d)."""
        floating = features if features.is_floating_point() else features.to(torch.get_default_dtype())
        return functional.normalize(take_signed_roots(floating))

    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Do nothing; there are no weights."""
        return self
