"""The linear projection of one of two views; a paired fit sets it."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.linear_projection import LinearProjection
from deephash.validation import InvalidInputError

SET_BY_PAIR = "A view's projection is set by the paired projection that it belongs to; fit the paired projection."


@final
class LinearView(LinearProjection):
    """Linear map (X - μ) W + o of one view, learnt together with that of the other view; `fit` raises an error."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.offsets = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W + o."""
        return super().forward(features) + self.offsets

    @torch.no_grad()
    def set_weights(self, mean: Tensor, directions: Tensor, offsets: Tensor | None = None) -> None:
        """Set the mean (d,), directions (d, k), and offsets (k,), which are 0 if None."""
        self.mean.copy_(mean)
        self.directions.copy_(directions)
        self.offsets.zero_()
        if offsets is not None:
            self.offsets.copy_(offsets)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        raise InvalidInputError(SET_BY_PAIR)
