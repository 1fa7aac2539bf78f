"""Locality-sensitive hashing for shift-invariant kernels (Raginsky & Lazebnik, NIPS 2009)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.euclidean import as_array, find_nearest
from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count, check_positive

# Number of rows over which the distance to the neighbour is averaged, for a sampling error of about 1 %.
SAMPLE = 1000


def expected_hamming_share(kernel: Tensor, terms: int = 1000) -> Tensor:
    """Expected fraction of differing bits of two items, as a function of their Gaussian kernel value (Eq. 8).

    h(K) = 8/π² Σ_m (1 - K^(m²)) / (4m² - 1). For K(x, y) = exp(-γ‖x - y‖²/2), K(mx, my) is K(x, y)^(m²). h falls from
    4/π² at K = 0 to 0 at K = 1.

    Args:
        kernel: values in [0, 1], any shape.
        terms: number of terms of the series; the remainder is less than 2/π² divided by this number.

    Returns:
        float64, of the same shape.
    """
    m = torch.arange(1, terms + 1, dtype=torch.float64, device=kernel.device)
    powers = kernel.double()[..., None] ** m.square()
    return 8 / math.pi**2 * ((1 - powers) / (4 * m.square() - 1)).sum(-1)


@final
class SKLSH(Projection):
    """Locality-sensitive hashing for shift-invariant kernels: draws random Fourier features with random thresholds.

    A bit is the sign of a cosine along a random direction plus a random height. It changes many times over the space,
    and the expected Hamming distance is a function of the Gaussian kernel. This distance distinguishes near items, but
    is nearly the same for all distant items. Only the bandwidth is learnt.
    Known weakness: it needs long codes; up to 64 bits, the noise of the random draw hides neighbours.

    Shape:
        features (n, d) → projections (n, k), in [-2, 2].

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        neighbour: rank r of the neighbour that determines the kernel width; 50 as in Gong & Lazebnik (2011). The width
            is the mean distance between a training item and its r-th nearest neighbour, over a sample of 1,000 items,
            and γ = 1 / width².
        gamma: a fixed γ, such as 1 for unit-scale GIST in Moran's work; None derives it from the data.

    Attributes:
        width: float64, the mean distance to the neighbour, or 1 / √γ.

    Raises:
        InvalidInputError: neighbour is below 1, or gamma is not above 0; in `fit`, there are fewer than two rows, or
            the neighbours of all rows have distance 0.

    References:
        Raginsky & Lazebnik, "Locality-sensitive binary codes from shift-invariant kernels", NIPS 2009; Rahimi & Recht,
        "Random features for large-scale kernel machines", NIPS 2007.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True

    mean: Tensor
    width: Tensor

    def __init__(self, input_dim: int, output_dim: int, neighbour: int = 50, gamma: float | None = None) -> None:
        super().__init__(input_dim, output_dim)
        check_count(neighbour, "neighbour")
        if gamma is not None:
            check_positive(gamma, "gamma")
        self.neighbour = neighbour
        self.gamma = gamma
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("width", torch.ones((), dtype=torch.float64))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))
        self.phases = nn.Parameter(torch.zeros(output_dim))
        self.heights = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """cos(w·(x - μ) + φ) + t for each direction w, phase φ and height t.

        Subtracting the mean keeps the argument of the cosine small, where float32 is precise. Because the phase is
        uniform, this changes no probability.
        """
        angles = (features.to(self.directions.dtype) - self.mean) @ self.directions + self.phases
        return torch.cos(angles) + self.heights

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        d, k = self.directions.shape
        width = self._measure_neighbour_distance(features, generator) if self.gamma is None else self.gamma**-0.5
        self.width.fill_(width)
        self.mean.copy_(features.mean(0, dtype=torch.float64))
        self.directions.copy_(torch.randn(d, k, generator=generator, dtype=torch.float64) / width)
        self.phases.copy_(2 * math.pi * torch.rand(k, generator=generator, dtype=torch.float64))
        self.heights.copy_(2 * torch.rand(k, generator=generator, dtype=torch.float64) - 1)

    def _measure_neighbour_distance(self, features: Tensor, generator: torch.Generator) -> float:
        """Compute the mean distance of sampled rows from their neighbour of the given rank, at most n - 1."""
        data = as_array(features)
        rows = torch.randperm(len(data), generator=generator)[:SAMPLE].numpy()
        rank = min(self.neighbour, len(data) - 1)
        # An item is its own nearest neighbour, at distance 0, so one more is requested.
        _, squared = find_nearest(data[rows], data, rank + 1, description="Width of the kernel")
        distance = float((squared**0.5).mean())
        if distance == 0:
            raise InvalidInputError(
                f"training items lie at distance 0 from their {rank} nearest neighbours, so the kernel has no width; "
                "give data that vary, raise neighbour, or fix gamma."
            )
        return distance
