"""Cross-view hashing (Kumar & Udupa, IJCAI 2011)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.pair_covariances import pair_covariances
from deephash.functional.principal_components import canonical_signs
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import check_directions, check_positive


def covariances(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Means and covariances of two views.

    Args:
        first: X, floating (n, d).
        second: Y, floating (n, e), row i of both one item.

    Returns:
        Means float64 (d,) and (e,); C_xx (d, d), C_yy (e, e), C_xy (d, e).
    """
    mean, other_mean, joint = pair_covariances(first, second)
    d = first.shape[1]
    return mean, other_mean, joint[:d, :d], joint[d:, d:], joint[:d, d:]


def canonical_pairs(
    first_covariance: Tensor, second_covariance: Tensor, cross: Tensor, regularisation: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of directions whose projections correlate best, by falling correlation, then those of one view alone.

    The eigenvectors of [C_xx C_xy; C_yx C_yy] w = (1 + ρ) diag(C_xx, C_yy) w with ρ >= 0. Past the smaller dimension
    ρ is 0 and the smaller view's half is 0 too: what is left of the larger view, by falling variance.

    Args:
        first_covariance: C_xx, float64 (d, d).
        second_covariance: C_yy, (e, e).
        cross: C_xy, (d, e).
        regularisation: added to each covariance's diagonal, in units of its mean.

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
    first, second = (_completed(half, m) for half in (left, right.T))
    first, second = whitenings[0] @ first, whitenings[1] @ second
    leading = first if len(first) == m else second
    # A pair turns as one; the larger view, which no direction of is 0, says how.
    signs = (canonical_signs(leading) * leading).sum(0).sign()
    rest = correlations.new_zeros(m - shared)
    return first * signs, second * signs, torch.cat([correlations, rest])


def _completed(columns: Tensor, m: int) -> Tensor:
    """Orthonormal columns (d, r) with more of them up to m: orthonormal to them while d lasts, 0 from there."""
    d, r = columns.shape
    identity = torch.eye(d, dtype=columns.dtype, device=columns.device)
    basis = torch.linalg.qr(torch.cat([columns, identity], 1)).Q[:, r:]
    missing = columns.new_zeros(d, m - d)
    return torch.cat([columns, basis, missing], 1)


@final
class CVH(PairedProjection):
    """Directions of either view whose projections agree best on pairs; with one text to an image, the canonical ones.

    Known weakness: there are no more such pairs than the smaller view has dimensions. Longer codes take what is left
    of the larger view, as the paper's eigenproblem does: bits on which the smaller view has nothing to say, the same
    for all of its items. They cost the smaller view's queries what the larger view's items then differ by.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension of each view by its name.
        output_dim: number of projections k, at most the larger dimension.
        regularisation: ridge on each view's covariance, in units of its mean variance; features that sum to one have a
            direction in which nothing varies, and hardly more is needed where pairs are many.

    Attributes:
        correlations: float64 (k,), of the canonical pairs, 0 beyond their number.

    Raises:
        InvalidInputError: more projections than the larger dimension, or regularisation not above 0.

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
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})
        self.register_buffer("correlations", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
    ) -> None:
        first, second = views.values()
        mean, other_mean, own, others, cross = covariances(first, second)
        directions, other_directions, correlations = canonical_pairs(own, others, cross, self.regularisation)
        k = self.output_dim
        for name, solution in zip(views, ((mean, directions), (other_mean, other_directions)), strict=True):
            self.view(name).set(solution[0], solution[1][:, :k])
        self.correlations.copy_(correlations[:k])
