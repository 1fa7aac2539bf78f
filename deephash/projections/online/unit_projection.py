"""The base class of online projections that take inner products of unit features with directions."""

import torch
from torch import Tensor, nn

from deephash.functional.principal_components import feature_mean
from deephash.functional.unit_features import random_unit_directions, unit_features
from deephash.projections.online.base import OnlineProjection


class UnitProjection(OnlineProjection):
    """Inner products of directions with features that are centred and scaled to length 1.

    The mean is that of the first batch. Subclasses implement `_learn`.
    """

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Inner products of unit features with the directions."""
        return unit_features(features, self.mean) @ self.directions

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.mean.copy_(feature_mean(features))
        self.directions.copy_(random_unit_directions(self.input_dim, self.output_dim, generator))
