"""Semantic correlation maximisation, bit by bit (Zhang & Li, AAAI 2014, Algorithm 1)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import BLOCK_ROWS
from deephash.functional.semantic_correlation import align_signs, regularised_whitening, semantic_agreement
from deephash.io.progress import track
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.cvh import covariances
from deephash.projections.paired.linear_view import LinearView
from deephash.projections.paired.scm import RANK_TOLERANCE, refuse_agreement_of_nothing
from deephash.validation import check_positive


def signed_sum(features: Tensor, mean: Tensor, direction: Tensor) -> Tensor:
    """Xᵀ sgn(X w) / n of centred features, float64 (d,); sgn(0) = 1."""
    total = torch.zeros_like(direction)
    for rows in torch.split(features, BLOCK_ROWS):
        centred = rows.double() - mean
        total += torch.where(centred @ direction >= 0, 1.0, -1.0).double() @ centred
    return total / len(features)


def canonical_directions(cross: Tensor, whitenings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Pairs of directions whose projections correlate best on pairs of items, by falling correlation.

    Args:
        cross: covariance of the views, float64 (d, e).
        whitenings: T of each view, (d, d) and (e, e).

    Returns:
        Directions (d, p) and (e, p) of the p pairs with a correlation.
    """
    left, correlations, right = torch.linalg.svd(whitenings[0].T @ cross @ whitenings[1], full_matrices=False)
    p = int((correlations > RANK_TOLERANCE * correlations[0]).sum())
    return whitenings[0] @ left[:, :p], whitenings[1] @ right[:p].T


def residual_directions(
    views: tuple[Tensor, Tensor],
    means: tuple[Tensor, Tensor],
    agreement: Tensor,
    canonical: tuple[Tensor, Tensor],
    whitenings: tuple[Tensor, Tensor],
    k: int,
) -> tuple[Tensor, Tensor]:
    """Pairs of directions, each for what the bits before it leave of k S̃, then canonical ones.

    The residue is R = k S̃ - Σ sgn(X w) sgn(Y v)ᵀ, of which XᵀRY is all that is kept; the next pair maximises
    wᵀXᵀRYv with both projections of unit variance. Where that maximum is larger than the one before, the last bit
    left more than it found. From there canonical pairs are taken, the best first, or, where there are fewer of them
    than bits to find, from the bit on that leaves as many.

    Args:
        views: X and Y before they are centred, floating (n, d) and (n, e).
        means: of each.
        agreement: XᵀS̃Y / n², float64 (d, e).
        canonical: pairs of directions (d, p) and (e, p).
        whitenings: T of each view, (d, d) and (e, e).
        k: number of bits, any.

    Returns:
        Directions (d, k) and (e, k).
    """
    residue = k * agreement
    pairs = canonical[0].shape[1]
    found = []
    last, rose = float("inf"), False
    for bit in track(range(k), "Bits"):
        left, values, right = torch.linalg.svd(whitenings[0].T @ residue @ whitenings[1], full_matrices=False)
        rose = rose or float(values[0]) > last
        if rose and k - bit <= pairs:
            found.append(align_signs(canonical[0][:, : k - bit], canonical[1][:, : k - bit]))
            break
        last = float(values[0])
        pair = align_signs(whitenings[0] @ left[:, :1], whitenings[1] @ right[:1].T)
        found.append(pair)
        sums = [signed_sum(view, mean, w[:, 0]) for view, mean, w in zip(views, means, pair, strict=True)]
        residue = residue - torch.outer(*sums)
    return torch.cat([w for w, _ in found], 1), torch.cat([v for _, v in found], 1)


@final
class SCMSequential(PairedProjection):
    """Semantic correlation maximisation whose bits come one by one, each for what those before leave of the labels.

    As `SCM`, it wants sgn(XW) sgn(YV)ᵀ ≈ k S̃, S̃ being the cosine of labels stretched to [-1, 1]. It keeps the signs:
    every bit's product is taken off k S̃, and the next pair of directions is the leading one of the residue. Directions
    may repeat or lean on each other, so that any number of bits can be learnt from two small views. Once hyperplanes
    have said what they can, a bit adds to the residue, and its leading value rises; the bits from there on are the
    directions whose projections correlate best, as the authors' program has it. Two small views have few of these, and
    bits are learnt from the residue until they suffice.
    Known weakness: greedy; no bit is looked at again, and hyperplanes are bound to pass through the mean.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension d of each view by its name.
        output_dim: number of projections k; there is no bound.
        regularisation: ridge on each view's covariance, in units of its mean variance; features that sum to one have a
            direction in which nothing varies.

    Raises:
        InvalidInputError: regularisation not above 0; in `fit`, labels that are the same for all items.

    References:
        Zhang & Li, "Large-scale supervised multimodal hashing with semantic correlation maximization", AAAI 2014,
        Algorithm 1.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __init__(self, input_dims: Mapping[str, int], output_dim: int, regularisation: float = 0.1) -> None:
        super().__init__(input_dims, output_dim)
        check_positive(regularisation, "regularisation")
        self.regularisation = regularisation
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})

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
        canonical = canonical_directions(cross, whitenings)
        directions = residual_directions(
            (first, second), (mean, other_mean), agreement, canonical, whitenings, self.output_dim
        )
        for name, centre, found in zip(views, (mean, other_mean), directions, strict=True):
            self.view(name).set(centre, found)
