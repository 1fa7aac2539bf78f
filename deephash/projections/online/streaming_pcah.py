"""PCA hashing of a stream: principal components from a decayed mean and scatter."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import canonical_signs
from deephash.functional.running_moments import check_half_life, decay_weights, update_moments
from deephash.projections.online.base import OnlineProjection
from deephash.validation import check_directions


def leading_components(covariance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k eigenvectors of largest eigenvalue of a covariance, or as many as there is variance for.

    Args:
        covariance: float64 (d, d).
        k: number of directions, at most d.

    Returns:
        directions float64 (d, m), orthonormal, by falling variance and with canonical signs; variances float64 (m,).
    """
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0)[:k], directions.flip(1)[:, :k]
    # What rounding alone can make of the largest variance, the features having come in single precision.
    m = int((variances > len(covariance) * torch.finfo(torch.float64).eps * variances[0]).sum())
    return canonical_signs(directions[:, :m]), variances[:m]


@final
class StreamingPCAH(OnlineProjection):
    """PCAH whose mean and covariance follow a stream.

    Mean and scatter are sufficient: without decay, after one pass, this is PCAH of all items, however they were cut
    into batches. With a half-life, older items count less and less, and the components follow a drift.
    Known weakness: PCAH's own; and every update moves all bits, if by little.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.
        half_life: items after which one counts half; None: all count the same.

    Raises:
        InvalidInputError: more projections than dimensions, or than directions in which the first batch varies.

    References:
        Wang, Zhang, Jing & Ma, "AnnoSearch: image auto-annotation by search", CVPR 2006; Chan, Golub & LeVeque,
        "Updating formulae and a pairwise algorithm for computing sample variances", Stanford 1979.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = False
    in_given_order: ClassVar[bool] = True
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)

    mean: Tensor
    weight: Tensor
    stream_mean: Tensor
    scatter: Tensor

    def __init__(self, input_dim: int, output_dim: int, half_life: float | None = None) -> None:
        super().__init__(input_dim, output_dim)
        check_directions(output_dim, input_dim, f"StreamingPCAH can give for d={input_dim} features")
        check_half_life(half_life)
        self.half_life = half_life
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("stream_mean", torch.zeros(input_dim, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(input_dim, input_dim, dtype=torch.float64))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W, the columns of W orthonormal."""
        return project_centred(features, self.mean, self.directions)

    def function_weights(self) -> Tensor:
        """Directions and thresholds."""
        return torch.cat([self.directions.detach(), (self.mean @ self.directions.detach())[None]])

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        for statistic in (self.weight, self.stream_mean, self.scatter):
            statistic.zero_()

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        weights, remains = decay_weights(len(features), self.half_life)
        update_moments(self.weight, self.stream_mean, self.scatter, features, weights, remains)
        components, variances = leading_components(self.scatter / self.weight, self.output_dim)
        check_directions(
            self.output_dim, len(variances), f"in which the {int(self.seen) + len(features)} items so far vary"
        )
        self.mean.copy_(self.stream_mean)
        self.directions.copy_(components)
