"""The projection of one of two views as a linear map, which a paired fit sets."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError


@final
class LinearView(Projection):
    """(X - μ) W + o, for a view whose directions another part learns, together with those of the other view.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.

    Raises:
        InvalidInputError: in `fit`, always: a view alone says nothing of the other.
    """

    samples_rows: ClassVar[bool] = False

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))
        self.offsets = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W + o."""
        return project_centred(features, self.mean, self.directions) + self.offsets

    @torch.no_grad()
    def set(self, mean: Tensor, directions: Tensor, offsets: Tensor | None = None) -> None:
        """Take a solution: the mean (d,), directions (d, k), and offsets (k,), 0 where None."""
        self.mean.copy_(mean)
        self.directions.copy_(directions)
        self.offsets.zero_()
        if offsets is not None:
            self.offsets.copy_(offsets)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        raise InvalidInputError("A view's projection is set by the paired projection that it belongs to; fit that.")
