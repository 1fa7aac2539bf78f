"""Locality-sensitive hashing for shift-invariant kernels (Raginsky & Lazebnik, NIPS 2009)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.euclidean import as_array, nearest
from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count, check_positive

# Rows over which the neighbour's distance is averaged: a sampling error of about 1 %.
SAMPLE = 1000


def expected_hamming_share(kernel: Tensor, terms: int = 1000) -> Tensor:
    """The expected share of differing bits of two items, as a function of their Gaussian kernel value (Eq. 8).

    h(K) = 8/π² Σ_m (1 - K^(m²)) / (4m² - 1), for K(x, y) = exp(-γ‖x - y‖²/2), whose m-th power of the characteristic
    function, K(mx, my), is K(x, y)^(m²). It falls from 4/π² at K = 0 to 0 at K = 1.

    Args:
        kernel: values in [0, 1], any shape.
        terms: terms of the series; those left out come to less than 2/π² over their number.

    Returns:
        float64, of the same shape.
    """
    m = torch.arange(1, terms + 1, dtype=torch.float64, device=kernel.device)
    powers = kernel.double()[..., None] ** m.square()
    return 8 / math.pi**2 * ((1 - powers) / (4 * m.square() - 1)).sum(-1)


@final
class SKLSH(Projection):
    """Random Fourier features, each cut at a random height: Hamming distances that follow the Gaussian kernel.

    A bit is the sign of a cosine along a random direction, so it changes many times over the space, and the Hamming
    distance tells near items apart but says nothing of how far far items are. Nothing is learnt but the bandwidth.
    Known weakness: it takes long codes; at 64 bits and less, neighbours drown in the noise of the draw.

    Shape:
        features (n, d) → projections (n, k), in [-2, 2].

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k; there is no bound.
        neighbour: the kernel's width is the mean distance of a training item to this nearest neighbour, over a sample
            of 1,000, so γ = 1 / distance²; 50, as Gong & Lazebnik (2011) set it for this method.
        gamma: γ itself, where it is to be fixed, as 1 on unit-scale GIST in Moran's work; None takes it from the data.

    Attributes:
        width: float64, the mean distance to the neighbour, or 1 / √γ.

    Raises:
        InvalidInputError: neighbour below 1, gamma not above 0; in `fit`, fewer than two rows, or rows whose
            neighbours all lie at distance 0.

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
        """cos(w·(x - μ) + φ) + t of each direction w, phase φ and height t.

        The mean is taken off to keep the cosine's argument small, where float32 has digits; as the phase is uniform,
        it changes no probability.
        """
        angles = (features.to(self.directions.dtype) - self.mean) @ self.directions + self.phases
        return torch.cos(angles) + self.heights

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        d, k = self.directions.shape
        width = self._neighbour_distance(features, generator) if self.gamma is None else self.gamma**-0.5
        self.width.fill_(width)
        self.mean.copy_(features.mean(0, dtype=torch.float64))
        self.directions.copy_(torch.randn(d, k, generator=generator, dtype=torch.float64) / width)
        self.phases.copy_(2 * math.pi * torch.rand(k, generator=generator, dtype=torch.float64))
        self.heights.copy_(2 * torch.rand(k, generator=generator, dtype=torch.float64) - 1)

    def _neighbour_distance(self, features: Tensor, generator: torch.Generator) -> float:
        """Mean distance from a sample of rows to their nearest neighbours of the wanted rank, or the last there is."""
        data = as_array(features)
        rows = torch.randperm(len(data), generator=generator)[:SAMPLE].numpy()
        rank = min(self.neighbour, len(data) - 1)
        # An item is its own nearest neighbour, at distance 0: one more takes its place.
        _, squared = nearest(data[rows], data, rank + 1, description="Width of the kernel")
        distance = float((squared**0.5).mean())
        if distance == 0:
            raise InvalidInputError(
                f"training items lie at distance 0 from their {rank} nearest neighbours, so the kernel has no width; "
                "give data that vary, raise neighbour, or fix gamma."
            )
        return distance
