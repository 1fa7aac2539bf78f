"""The base class of hyperplanes with an intercept, which support vector machines learn."""

import torch
from torch import Tensor, nn

from deephash.projections.linear_projection import LinearProjection


class Hyperplanes(LinearProjection):
    """(X - μ) W + β: one hyperplane per bit. Subclasses implement `_fit`."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W + β."""
        return super().forward(features) + self.bias
