"""Semantic correlation maximisation with orthogonal projections (Zhang & Li, AAAI 2014, Section "Orthogonal")."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.semantic_correlation import align_signs
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.projections.paired.semantic_statistics import RANK_TOLERANCE, semantic_statistics
from deephash.validation import check_directions, check_positive


def agreeing_directions(
    agreement: Tensor, cross: Tensor, whitenings: tuple[Tensor, Tensor], k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find directions of both views that maximise tr(Wᵀ A V) with WᵀC_xx W = VᵀC_yy V = I, by descending agreement.

    A comes from c labels and has at most c - 1 directions. Further directions add 0; of these, the ones whose
    projections correlate best on pairs are chosen.

    Args:
        agreement: A, float64 (d, e).
        cross: covariance of the views, float64 (d, e).
        whitenings: whitening matrix T of each view, (d, d) and (e, e).
        k: number of directions, at most min(d, e).

    Returns:
        W (d, k), V (e, k), and the agreement of each pair (k,).
    """
    left, values, right = torch.linalg.svd(whitenings[0].T @ agreement @ whitenings[1])
    r = min(k, int((values > RANK_TOLERANCE * values[0]).sum()))
    # Orthonormal bases of the directions that the labels leave undetermined.
    rest, other_rest = left[:, r:], right[r:].T
    correlated, _, other_correlated = torch.linalg.svd(rest.T @ (whitenings[0].T @ cross @ whitenings[1]) @ other_rest)
    first = torch.cat([left[:, :r], rest @ correlated], 1)[:, :k]
    second = torch.cat([right[:r].T, other_rest @ other_correlated.T], 1)[:, :k]
    agreements = torch.cat([values[:r], values.new_zeros(k - r)])
    return *align_signs(whitenings[0] @ first, whitenings[1] @ second), agreements


@final
class SCM(PairedProjection):
    """Semantic correlation maximisation: learns directions of both views whose products follow the labels.

    Let S̃ be the cosine of two items' labels, rescaled to [-1, 1]. The codes should satisfy sgn(XW) sgn(YV)ᵀ ≈ k S̃.
    Without the signs, and with projections that are uncorrelated in each view, this is one eigenproblem. S̃ enters it
    through sums over labels and is never stored.
    Known weakness: there are at most as many uncorrelated projections as the smaller view has dimensions, and c labels
    determine only c - 1 of them. Further directions blur the first ones. `SCMSequential` has neither limit.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension d of each view by name.
        output_dim: number of projections k, at most the smaller dimension.
        regularisation: ridge on each view's covariance, in units of its mean variance; needed because features that sum
            to one have a direction without variance.

    Attributes:
        agreements: float64 (k,), agreement of each pair of directions with the labels, descending; 0 for directions
            that the labels do not determine.

    Raises:
        InvalidInputError: there are more projections than the smaller dimension, or regularisation is not above 0; in
            `fit`, all items have the same labels.

    References:
        Zhang & Li, "Large-scale supervised multimodal hashing with semantic correlation maximization", AAAI 2014.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    agreements: Tensor

    def __init__(self, input_dims: Mapping[str, int], output_dim: int, regularisation: float = 0.1) -> None:
        super().__init__(input_dims, output_dim)
        check_positive(regularisation, "regularisation")
        smaller = min(self.input_dims, key=lambda name: self.input_dims[name])
        check_directions(
            output_dim,
            self.input_dims[smaller],
            f"of {smaller}, the smaller view, that SCM can keep uncorrelated; or choose method=scm_sequential, which "
            "has no bound",
        )
        self.regularisation = regularisation
        self.register_buffer("agreements", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert labels is not None
        first, second = views.values()
        statistics = semantic_statistics(first, second, labels, self.regularisation)
        *directions, agreements = agreeing_directions(
            statistics.agreement, statistics.cross, statistics.whitenings, self.output_dim
        )
        for name, mean, columns in zip(views, statistics.means, directions, strict=True):
            self.view(name).set_weights(mean, columns)
        self.agreements.copy_(agreements)
