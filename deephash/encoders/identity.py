"""The identity encoder, for projections of unchanged features."""

from typing import Self, final

import torch
from torch import Tensor

from deephash.encoders.base import Encoder
from deephash.validation import check_count


@final
class Identity(Encoder):
    """Unchanged features.

    Shape:
        features (n, d) → the same.

    Args:
        input_dim: feature dimension d.

    Raises:
        InvalidInputError: the dimension is below 1.
    """

    def __init__(self, input_dim: int) -> None:
        check_count(input_dim, "input_dim")
        super().__init__(input_dim, input_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features."""
        return features

    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Do nothing; there are no weights."""
        return self
