"""Cross-modality similarity-sensitive hashing (Bronstein, Bronstein, Michel & Paragios, CVPR 2010)."""

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from deephash.affinity.boosted_pairs import boost_weights, draw_signed_pairs
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import canonical_signs, feature_mean
from deephash.functional.surrogate_gradient import signs as zero_rule_signs
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.validation import check_count, check_positive


def cross_covariance(first: Tensor, second: Tensor, pairs: Tensor, weights: Tensor) -> Tensor:
    """Σ w_n x_i y_jᵀ over pairs n = (i, j) with signed weights: similar minus dissimilar pairs.

    Args:
        first: float64 (n, d), centred, on the CPU.
        second: float64 (n, e).
        pairs: int64 (p, 2).
        weights: float64 (p,), signed.

    Returns:
        float64 (d, e).
    """
    sizes = (len(first), len(second))
    sparse = csr_array((weights.numpy(), (pairs[:, 0].numpy(), pairs[:, 1].numpy())), shape=sizes)
    return first.T @ torch.from_numpy(np.asarray(sparse @ second.numpy()))


def leading_directions(cross: Tensor) -> tuple[Tensor, Tensor]:
    """Find the unit p (d,) and q (e,) that maximise pᵀ C q, the leading singular vectors of C; they share one sign."""
    left, _, right = torch.linalg.svd(cross, full_matrices=False)
    p = canonical_signs(left[:, :1])[:, 0]
    return p, right[0] * (p @ left[:, 0]).sign()


def best_threshold(values: Tensor, gains: Tensor) -> Tensor:
    """Find the t that maximises Σ g_i sgn(v_i - t), midway between two values, so that both sides have items.

    Args:
        values: float64 (n,).
        gains: float64 (n,).

    Returns:
        float64, 0-dimensional; the value itself if all are the same.
    """
    order = values.argsort()
    ordered = values[order]
    below = gains[order].cumsum(0)[:-1]
    objective = torch.where(ordered[1:] > ordered[:-1], gains.sum() - 2 * below, -torch.inf)
    place = int(objective.argmax())
    return (ordered[place] + ordered[place + 1]) / 2


@final
class CMSSH(PairedProjection):
    """Cross-modality similarity-sensitive hashing: learns halfspaces that separate similar from other pairs.

    Each bit has one halfspace per view, learnt from weighted pairs. The directions maximise the weighted covariance of
    their projections over similar minus dissimilar pairs; the thresholds are then set to their best values. As in
    AdaBoost, pairs that a bit gets wrong weigh more for the next bit.
    Known weakness: the directions maximise a product of projections, before the sign, so that a few extreme pairs
    dominate; each bit corrects the previous ones on pairs of the training set, so later bits generalise poorly.

    Shape:
        features (n, d of the view) → projections (n, k); k may exceed either d, because weights change from bit to bit.

    Args:
        input_dims: feature dimension of each view by name.
        output_dim: number of projections k.
        pairs: number of similar pairs to draw, and of dissimilar ones.
        step: α, by which wrong pairs gain weight and right pairs lose it; None for that of AdaBoost, which depends on
            the agreement of the bit. A fixed 1 weighs bits as plain Hamming distances do, but overshoots if a bit is
            right on little more than half of the pairs: the next bit is then its opposite.
        threshold_rounds: how often each threshold is set to its best value, with the other fixed; 0 leaves both at the
            means.

    Attributes:
        agreements: float64 (k,), r = Σ w s h of each bit, for the weights w that it was learnt with, the signs s of the
            pairs and the products h of the two bits ±1; 0 is chance.

    Raises:
        InvalidInputError: pairs is below 1, step is not above 0, or threshold_rounds is below 0; in `fit`, pairs of one
            kind are missing.

    References:
        Bronstein, Bronstein, Michel & Paragios, "Data fusion through cross-modality metric learning using
        similarity-sensitive hashing", CVPR 2010, Section 4.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    samples_rows: ClassVar[bool] = True

    agreements: Tensor

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        pairs: int = 20000,
        step: float | None = None,
        threshold_rounds: int = 2,
    ) -> None:
        super().__init__(input_dims, output_dim)
        check_count(pairs, "pairs")
        if step is not None:
            check_positive(step, "step")
        if threshold_rounds != 0:
            check_count(threshold_rounds, "threshold_rounds")
        self.pairs = pairs
        self.step = step
        self.threshold_rounds = threshold_rounds
        self.register_buffer("agreements", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        pairs, signs = draw_signed_pairs(affinity, self.pairs, generator)
        means = [feature_mean(rows).cpu() for rows in views.values()]
        # On the CPU, because each bit needs products with a sparse matrix of pairs and two sorts of n values.
        first, second = (rows.cpu().double() - mean for rows, mean in zip(views.values(), means, strict=True))
        weights = torch.full_like(signs, 1 / len(signs))
        learnt: tuple[list[Tensor], list[Tensor]] = ([], [])
        offsets: tuple[list[Tensor], list[Tensor]] = ([], [])
        for bit in range(self.output_dim):
            directions = leading_directions(cross_covariance(first, second, pairs, weights * signs))
            margins, thresholds = self._cut((first @ directions[0], second @ directions[1]), pairs, weights * signs)
            outcomes = signs * zero_rule_signs(margins[0])[pairs[:, 0]] * zero_rule_signs(margins[1])[pairs[:, 1]]
            weights, agreement = boost_weights(weights, outcomes, self.step)
            self.agreements[bit] = agreement
            for side in range(2):
                learnt[side].append(directions[side])
                offsets[side].append(-thresholds[side])
        for side, name in enumerate(views):
            self.view(name).set_weights(means[side], torch.stack(learnt[side], 1), torch.stack(offsets[side]))

    def _cut(
        self, projections: tuple[Tensor, Tensor], pairs: Tensor, weights: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Find the thresholds at which the bits agree most, starting at 0; return margins and thresholds."""
        thresholds = [projections[0].new_zeros(()), projections[1].new_zeros(())]
        for _ in range(self.threshold_rounds):
            for side in (0, 1):
                other = zero_rule_signs(projections[1 - side] - thresholds[1 - side])[pairs[:, 1 - side]]
                gains = torch.bincount(pairs[:, side], weights * other, len(projections[side]))
                thresholds[side] = best_threshold(projections[side], gains)
        margins = (projections[0] - thresholds[0], projections[1] - thresholds[1])
        return margins, (thresholds[0], thresholds[1])
