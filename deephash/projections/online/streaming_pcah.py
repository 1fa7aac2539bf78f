"""PCA hashing of a stream: principal components from a decayed mean and scatter."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.principal_components import canonical_signs
from deephash.projections.online.moving_projection import MomentProjection
from deephash.validation import check_directions


def leading_components(covariance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k eigenvectors of largest eigenvalue of a covariance, or fewer if there is no further variance.

    Args:
        covariance: float64 (d, d).
        k: number of directions, at most d.

    Returns:
        directions float64 (d, m), orthonormal, by descending variance, with canonical signs; variances float64 (m,).
    """
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0)[:k], directions.flip(1)[:, :k]
    # Smaller variances can be rounding errors of the largest one.
    m = int((variances > len(covariance) * torch.finfo(torch.float64).eps * variances[0]).sum())
    return canonical_signs(directions[:, :m]), variances[:m]


@final
class StreamingPCAH(MomentProjection):
    """PCA hashing of a stream: learns the directions in which the items so far vary most.

    The mean and scatter of the stream are sufficient statistics. Without decay, the result after one pass is PCAH of
    all items, for any division into batches. With a half-life, older items count less and less, and the components
    follow a drift. The columns of W are orthonormal.
    Known weakness: that of PCAH; and every update moves all bits, if only slightly.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.
        half_life: number of items after which an item counts half; None weighs all items equally.

    Raises:
        InvalidInputError: there are more projections than dimensions, or than directions in which the first batch
            varies.

    References:
        Wang, Zhang, Jing & Ma, "AnnoSearch: image auto-annotation by search", CVPR 2006; Chan, Golub & LeVeque,
        "Updating formulae and a pairwise algorithm for computing sample variances", Stanford 1979.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = False
    in_given_order: ClassVar[bool] = True
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)

    def __init__(self, input_dim: int, output_dim: int, half_life: float | None = None) -> None:
        super().__init__(input_dim, output_dim, half_life)
        check_directions(output_dim, input_dim, f"StreamingPCAH can give for d={input_dim} features")

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self._update_moments(features)
        components, variances = leading_components(self.scatter / self.weight, self.output_dim)
        items = int(self.seen) + len(features)
        check_directions(self.output_dim, len(variances), f"in which the {items} items so far vary")
        self.mean.copy_(self.stream_mean)
        self.directions.copy_(components)
