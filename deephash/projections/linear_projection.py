"""The base class of linear projections: centre the features, then take inner products with k directions."""

import torch
from torch import Tensor, nn

from deephash.functional.linear_map import project_centred
from deephash.projections.base import Projection


class LinearProjection(Projection):
    """Linear map (X - μ) W with a mean μ (d,) and directions W (d, k). Subclasses implement `_fit`, which sets both."""

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W."""
        return project_centred(features, self.mean, self.directions)
