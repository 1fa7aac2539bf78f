"""Locality-sensitive hashing by random hyperplanes (Charikar, STOC 2002)."""

from typing import final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import feature_mean
from deephash.projections.linear_projection import LinearProjection


@final
class LSH(LinearProjection):
    """Locality-sensitive hashing: draws random hyperplanes through the mean of the data and learns only this mean.

    The directions are Gaussian. The probability that a hyperplane separates two points is their angle divided by π, so
    the Hamming distance estimates the angle, and longer codes estimate it better. The angle is measured at the training
    mean: around the origin, features that are all positive, such as GIST, lie in a narrow cone and share most bits.
    Known weakness: it needs long codes, because it also spends bits where the data do not vary.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.

    References:
        Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002, section 3. Indyk & Motwani,
        "Approximate nearest neighbors", STOC 1998.
    """

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        self.mean.copy_(feature_mean(features))
        self.directions.copy_(torch.randn(self.directions.shape, generator=generator, dtype=torch.float64))
