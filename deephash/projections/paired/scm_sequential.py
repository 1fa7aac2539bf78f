"""Semantic correlation maximisation, bit by bit (Zhang & Li, AAAI 2014, Algorithm 1)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import BLOCK_ROWS
from deephash.functional.semantic_correlation import align_signs
from deephash.io.progress import track
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.projections.paired.semantic_statistics import RANK_TOLERANCE, SemanticStatistics, semantic_statistics
from deephash.validation import check_positive


def signed_sum(features: Tensor, mean: Tensor, direction: Tensor) -> Tensor:
    """Xᵀ sgn(X w) / n of centred features, float64 (d,); sgn(0) = 1."""
    total = torch.zeros_like(direction)
    for rows in torch.split(features, BLOCK_ROWS):
        centred = rows.double() - mean
        total += torch.where(centred @ direction >= 0, 1.0, -1.0).double() @ centred
    return total / len(features)


def correlated_directions(cross: Tensor, whitenings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Find pairs of directions whose projections correlate best on pairs of items, by descending correlation.

    Args:
        cross: covariance of the views, float64 (d, e).
        whitenings: whitening matrix T of each view, (d, d) and (e, e).

    Returns:
        Directions (d, p) and (e, p) of the p pairs with a non-zero correlation.
    """
    left, correlations, right = torch.linalg.svd(whitenings[0].T @ cross @ whitenings[1], full_matrices=False)
    p = int((correlations > RANK_TOLERANCE * correlations[0]).sum())
    return whitenings[0] @ left[:, :p], whitenings[1] @ right[:p].T


def residual_directions(
    views: tuple[Tensor, Tensor], statistics: SemanticStatistics, canonical: tuple[Tensor, Tensor], k: int
) -> tuple[Tensor, Tensor]:
    """Find pairs of directions, each for the residual of k S̃ that the previous bits leave, then canonical ones.

    The residual is R = k S̃ - Σ sgn(X w) sgn(Y v)ᵀ, of which only XᵀRY is stored. The next pair maximises wᵀXᵀRYv with
    projections of unit variance. If this maximum exceeds the previous one, the last bit has increased the residual.
    From there on, canonical pairs are used, the best first. If there are fewer canonical pairs than missing bits, bits
    are learnt from the residual until they suffice.

    Args:
        views: X and Y, not centred, floating (n, d) and (n, e).
        statistics: statistics of both views.
        canonical: pairs of directions (d, p) and (e, p).
        k: number of bits, without a limit.

    Returns:
        Directions (d, k) and (e, k).
    """
    whitenings, residue = statistics.whitenings, k * statistics.agreement
    pairs = canonical[0].shape[1]
    learnt = []
    previous, has_risen = float("inf"), False
    for bit in track(range(k), "Bits"):
        left, values, right = torch.linalg.svd(whitenings[0].T @ residue @ whitenings[1], full_matrices=False)
        has_risen = has_risen or float(values[0]) > previous
        if has_risen and k - bit <= pairs:
            learnt.append(align_signs(canonical[0][:, : k - bit], canonical[1][:, : k - bit]))
            break
        previous = float(values[0])
        pair = align_signs(whitenings[0] @ left[:, :1], whitenings[1] @ right[:1].T)
        learnt.append(pair)
        sums = [signed_sum(view, mean, w[:, 0]) for view, mean, w in zip(views, statistics.means, pair, strict=True)]
        residue = residue - torch.outer(*sums)
    return torch.cat([w for w, _ in learnt], 1), torch.cat([v for _, v in learnt], 1)


@final
class SCMSequential(PairedProjection):
    """Sequential semantic correlation maximisation: learns bits one by one, each on the residual of the labels.

    As in `SCM`, the codes should satisfy sgn(XW) sgn(YV)ᵀ ≈ k S̃, where S̃ is the cosine of labels rescaled to [-1, 1].
    Here the signs are kept: the product of every bit is subtracted from k S̃, and the next pair of directions is the
    leading one of the residual. Directions may repeat or depend on each other, so that two small views can give any
    number of bits. When hyperplanes cannot reduce the residual further, a bit increases it, and the leading
    singular value of the residual rises. From there on, the bits are the directions whose projections correlate best,
    as in the authors' program. Two small views have few of these, so more bits are learnt from the residual first.
    Known weakness: it is greedy, and no bit is revised; all hyperplanes pass through the mean.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension d of each view by name.
        output_dim: number of projections k, without a limit.
        regularisation: ridge on each view's covariance, in units of its mean variance; needed because features that sum
            to one have a direction without variance.

    Raises:
        InvalidInputError: regularisation is not above 0; in `fit`, all items have the same labels.

    References:
        Zhang & Li, "Large-scale supervised multimodal hashing with semantic correlation maximization", AAAI 2014,
        Algorithm 1.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __init__(self, input_dims: Mapping[str, int], output_dim: int, regularisation: float = 0.1) -> None:
        super().__init__(input_dims, output_dim)
        check_positive(regularisation, "regularisation")
        self.regularisation = regularisation

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert labels is not None
        first, second = views.values()
        statistics = semantic_statistics(first, second, labels, self.regularisation)
        canonical = correlated_directions(statistics.cross, statistics.whitenings)
        directions = residual_directions((first, second), statistics, canonical, self.output_dim)
        for name, mean, columns in zip(views, statistics.means, directions, strict=True):
            self.view(name).set_weights(mean, columns)
