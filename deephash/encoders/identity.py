"""No encoder: the projection takes the features as they are."""

from typing import Self, final

import torch
from torch import Tensor

from deephash.encoders.base import Encoder
from deephash.validation import check_count


@final
class Identity(Encoder):
    """Features as they are.

    Shape:
        features (n, d) → the same.

    Args:
        input_dim: feature dimension d.

    Raises:
        InvalidInputError: a dimension below 1.
    """

    def __init__(self, input_dim: int) -> None:
        check_count(input_dim, "input_dim")
        super().__init__(input_dim, input_dim)

    def forward(self, features: Tensor) -> Tensor:
        """The features."""
        return features

    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Nothing to set."""
        return self
