"""Locality-sensitive hashing by random hyperplanes (Charikar, STOC 2002)."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import feature_mean
from deephash.projections.base import Projection


@final
class LSH(Projection):
    """Inner products with Gaussian directions: hyperplanes drawn without looking at the data.

    The chance that a hyperplane parts two points is the angle between them over π, so Hamming distance estimates the
    angle, ever better with length. Any number of projections can be drawn. The angle is taken at the training mean:
    around the origin, features that are all positive, as GIST's, would lie in a narrow cone and share most bits.
    Known weakness: it needs long codes, for it spends bits where data do not vary.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, any.

    References:
        Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002, section 3. Indyk & Motwani,
        "Approximate nearest neighbors", STOC 1998.
    """

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W."""
        return project_centred(features, self.mean, self.directions)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        self.mean.copy_(feature_mean(features))
        self.directions.copy_(torch.randn(self.directions.shape, generator=generator, dtype=torch.float64))
