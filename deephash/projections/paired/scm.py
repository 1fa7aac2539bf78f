"""Semantic correlation maximisation with orthogonal projections (Zhang & Li, AAAI 2014, Section "Orthogonal")."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.semantic_correlation import align_signs, regularised_whitening, semantic_agreement
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.cvh import covariances
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import InvalidInputError, check_directions, check_positive

# Singular values below this share of the largest are rounding.
RANK_TOLERANCE = 1e-9


def agreeing_directions(
    agreement: Tensor, cross: Tensor, whitenings: tuple[Tensor, Tensor], k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions of two views that maximise tr(Wᵀ A V), WᵀC_xx W = VᵀC_yy V = I, by falling agreement.

    A comes from c labels and has no more than c - 1 directions. Those beyond add 0 whichever they are; of them the ones
    whose projections correlate best on pairs are taken.

    Args:
        agreement: A, float64 (d, e).
        cross: covariance of the views, float64 (d, e).
        whitenings: T of each view, (d, d) and (e, e).
        k: number of directions, at most min(d, e).

    Returns:
        W (d, k), V (e, k), and the agreement of each pair (k,).
    """
    left, values, right = torch.linalg.svd(whitenings[0].T @ agreement @ whitenings[1])
    r = min(k, int((values > RANK_TOLERANCE * values[0]).sum()))
    # Orthonormal bases of what the labels leave open.
    rest, other_rest = left[:, r:], right[r:].T
    correlated, _, other_correlated = torch.linalg.svd(rest.T @ (whitenings[0].T @ cross @ whitenings[1]) @ other_rest)
    first = torch.cat([left[:, :r], rest @ correlated], 1)[:, :k]
    second = torch.cat([right[:r].T, other_rest @ other_correlated.T], 1)[:, :k]
    agreements = torch.cat([values[:r], values.new_zeros(k - r)])
    return *align_signs(whitenings[0] @ first, whitenings[1] @ second), agreements


@final
class SCM(PairedProjection):
    """Directions of either view whose products across views come nearest to the similarity of labels.

    With S̃ the cosine of two items' labels, stretched to [-1, 1], the codes should satisfy sgn(XW) sgn(YV)ᵀ ≈ k S̃.
    Without the signs, and with projections that are uncorrelated in either view, that is one eigenproblem, whose S̃ is
    summed through the labels and never made.
    Known weakness: uncorrelated projections end with the smaller view's dimensions, and with c - 1 for c labels the
    labels say no more: later directions blur what the first ones tell. `SCMSequential` has neither bound.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension d of each view by its name.
        output_dim: number of projections k, at most the smaller dimension.
        regularisation: ridge on each view's covariance, in units of its mean variance; features that sum to one have a
            direction in which nothing varies.

    Attributes:
        agreements: float64 (k,), of the pairs of directions with the labels, falling; 0 where labels say nothing.

    Raises:
        InvalidInputError: more projections than the smaller dimension, or regularisation not above 0; in `fit`, labels
            that are the same for all items.

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
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})
        self.register_buffer("agreements", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
    ) -> None:
        assert labels is not None
        first, second = views.values()
        mean, other_mean, own, others, cross = covariances(first, second)
        agreement = semantic_agreement(first, second, (mean, other_mean), labels)
        refuse_agreement_of_nothing(agreement, cross, len(labels))
        whitenings = regularised_whitening(own, self.regularisation), regularised_whitening(others, self.regularisation)
        directions, other_directions, agreements = agreeing_directions(agreement, cross, whitenings, self.output_dim)
        for name, solution in zip(views, ((mean, directions), (other_mean, other_directions)), strict=True):
            self.view(name).set(*solution)
        self.agreements.copy_(agreements)


def refuse_agreement_of_nothing(agreement: Tensor, cross: Tensor, items: int) -> None:
    """Raise an error for labels that no direction of the features can agree with, as those of one class.

    Raises:
        InvalidInputError: agreement that is 0 but for rounding.
    """
    if float(agreement.abs().max()) <= RANK_TOLERANCE * float(cross.abs().max()):
        raise InvalidInputError(
            f"nothing in the features of the {items} training items varies with their labels; give items of two "
            "classes or more."
        )
