"""Cross-view hashing (Kumar & Udupa, IJCAI 2011)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.pair_covariances import pair_covariances
from deephash.functional.principal_components import canonical_signs
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.validation import check_directions, check_positive


def covariances(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute means and covariances of two views.

    Args:
        first: X, floating (n, d).
        second: Y, floating (n, e); row i of both views is one item.

    Returns:
        Means float64 (d,) and (e,); C_xx (d, d), C_yy (e, e), C_xy (d, e).
    """
    mean, other_mean, joint = pair_covariances(first, second)
    d = first.shape[1]
    return mean, other_mean, joint[:d, :d], joint[d:, d:], joint[:d, d:]


def canonical_pairs(
    first_covariance: Tensor, second_covariance: Tensor, cross: Tensor, regularisation: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Find pairs of directions whose projections correlate best, and after them directions of one view only.

    They are the eigenvectors of [C_xx C_xy; C_yx C_yy] w = (1 + ρ) diag(C_xx, C_yy) w with ρ >= 0. Beyond the smaller
    dimension, ρ and the direction of the smaller view are 0, and the remaining directions of the larger view follow, in
    descending order of variance.

    Args:
        first_covariance: C_xx, float64 (d, d).
        second_covariance: C_yy, (e, e).
        cross: covariance C_xy of both views, (d, e).
        regularisation: added to the diagonal of each covariance, in units of its mean.

    Returns:
        Directions (d, m) and (e, m), m = max(d, e), each 0 or of unit regularised variance, and correlations (m,).
    """
    whitenings = []
    for covariance in (first_covariance, second_covariance):
        values, vectors = torch.linalg.eigh(covariance)
        ridge = regularisation * covariance.diagonal().mean()
        whitenings.append((vectors / (values.clamp_min(0) + ridge).sqrt()).flip(1))
    left, correlations, right = torch.linalg.svd(whitenings[0].T @ cross @ whitenings[1], full_matrices=False)
    shared, m = len(correlations), max(cross.shape)
    first, second = (_complete_basis(half, m) for half in (left, right.T))
    first, second = whitenings[0] @ first, whitenings[1] @ second
    leading = first if len(first) == m else second
    # Both directions of a pair get the sign of the larger view, in which no direction is 0.
    signs = (canonical_signs(leading) * leading).sum(0).sign()
    rest = correlations.new_zeros(m - shared)
    return first * signs, second * signs, torch.cat([correlations, rest])


def _complete_basis(columns: Tensor, m: int) -> Tensor:
    """Append columns to orthonormal columns (d, r), up to m: further orthonormal columns up to d, then zeros."""
    d, r = columns.shape
    identity = torch.eye(d, dtype=columns.dtype, device=columns.device)
    basis = torch.linalg.qr(torch.cat([columns, identity], 1)).Q[:, r:]
    missing = columns.new_zeros(d, m - d)
    return torch.cat([columns, basis, missing], 1)


@final
class CVH(PairedProjection):
    """Cross-view hashing: learns pairs of directions, one per view, whose projections correlate best on pairs of items.

    With one text per image, these are the canonical directions of the two views. They have a closed form.
    Known weakness: there are at most as many pairs as the smaller view has dimensions. Longer codes use the remaining
    directions of the larger view, as the eigenproblem of the paper does. All items of the smaller view have the same
    value in these bits. For queries of that view, the bits only add noise from differences among items of the larger
    view.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension of each view by name.
        output_dim: number of projections k, at most the larger dimension.
        regularisation: ridge on each view's covariance, in units of its mean variance. It is needed because features
            that sum to one have a direction without variance; with many pairs, a small ridge suffices.

    Attributes:
        correlations: float64 (k,), correlations of the canonical pairs; 0 beyond their number.

    Raises:
        InvalidInputError: there are more projections than the larger dimension, or regularisation is not above 0.

    References:
        Kumar & Udupa, "Learning hash functions for cross-view similarity search", IJCAI 2011, Sections 3.2 and 3.3.
    """

    fits_on_shares: ClassVar[bool] = True

    correlations: Tensor

    def __init__(self, input_dims: Mapping[str, int], output_dim: int, regularisation: float = 1e-4) -> None:
        super().__init__(input_dims, output_dim)
        check_positive(regularisation, "regularisation")
        check_directions(output_dim, max(input_dims.values()), "of the larger view that CVH can give")
        self.regularisation = regularisation
        self.register_buffer("correlations", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        first, second = views.values()
        *means, first_covariance, second_covariance, cross = covariances(first, second)
        *directions, correlations = canonical_pairs(first_covariance, second_covariance, cross, self.regularisation)
        k = self.output_dim
        for name, mean, columns in zip(views, means, directions, strict=True):
            self.view(name).set_weights(mean, columns[:, :k])
        self.correlations.copy_(correlations[:k])
