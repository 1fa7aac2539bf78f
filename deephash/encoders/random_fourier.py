"""Random Fourier features: an explicit map whose inner products approximate the Gaussian kernel."""

import math
from typing import Self, final

import torch
from torch import Tensor, nn

from deephash.encoders.base import Encoder
from deephash.functional.feature_scale import mean_and_deviation
from deephash.validation import InvalidInputError, check_count, check_positive


def mean_squared_pair_distance(features: Tensor) -> float:
    """Return the mean of ‖x - y‖² over all ordered pairs of rows: twice the sum of the features' variances.

    Args:
        features: floating (n, d).
    """
    return 2 * float((features.double() - features.mean(0, dtype=torch.float64)).square().mean(0).sum())


@final
class RandomFourier(Encoder):
    """Cosines and sines along random directions, z(x) with z(x)·z(y) ≈ exp(-‖x - y‖² / 2σ²).

    σ² is `width²` times the mean squared distance of two training items, so that at width 1 kernel values lie around
    exp(-1/2) at any scale of the features, as in the anchor map. Directions are parameters in units of 1 / σ, so that
    joint training can move them. The cost does not depend on the number of items, and no items are stored.

    The cosine and the sine of each direction approximate the kernel with a smaller error than one cosine with a random
    phase, and z(x) has length 1 exactly.

    Known weakness: the directions do not depend on the data, so the same quality needs more directions than anchors of
    `AnchorMap`; the error of a kernel value decreases as 1 / √m.

    Shape:
        features (n, d) → (n, 2m), rows of length 1.

    Args:
        input_dim: feature dimension d.
        frequencies: number of directions m; 512 give kernel values an error of about 0.03.
        width: σ divided by the root mean squared distance of two training items; with a smaller width, only near
            items have similar features.

    Raises:
        InvalidInputError: frequencies below 1, or a width not above 0; in `fit`, identical items.

    References:
        Rahimi & Recht, "Random features for large-scale kernel machines", NIPS 2007, Algorithm 1; Sutherland &
        Schneider, "On the error of random Fourier features", UAI 2015, which compares the two forms.
    """

    mean: Tensor
    bandwidth: Tensor

    def __init__(self, input_dim: int, frequencies: int = 512, width: float = 1.0) -> None:
        check_count(input_dim, "input_dim")
        check_count(frequencies, "frequencies")
        check_positive(width, "width")
        super().__init__(input_dim, 2 * frequencies)
        self.frequencies = frequencies
        self.width = width
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("bandwidth", torch.ones(()))
        self.directions = nn.Parameter(torch.zeros(input_dim, frequencies))

    def forward(self, features: Tensor) -> Tensor:
        """Compute cosines, then sines, divided by √m, (n, d) → (n, 2m).

        Subtracting the mean keeps the angles small, where float32 is precise, and changes no inner product.
        """
        angles = ((features.to(self.mean.dtype) - self.mean) / self.bandwidth) @ self.directions
        waves = torch.cat([angles.cos(), angles.sin()], 1)
        return waves / math.sqrt(self.frequencies)

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Measure mean and bandwidth, and draw the directions.

        Raises:
            InvalidInputError: identical items, whose distances give no bandwidth.
        """
        squared = mean_squared_pair_distance(features)
        if bool((features == features[:1]).all()):
            raise InvalidInputError(
                f"all {len(features)} training items are the same, so a kernel of their distances has no bandwidth; "
                "give data that vary."
            )
        self.mean.copy_(mean_and_deviation(features)[0])
        self.bandwidth.fill_(self.width * squared**0.5)
        self.directions.copy_(torch.randn(self.directions.shape, generator=generator, dtype=torch.float64))
        return self
