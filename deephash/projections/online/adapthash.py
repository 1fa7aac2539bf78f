"""Adaptive hashing: gradient steps for the bits of a pair that are most wrong (Cakir & Sclaroff, ICCV 2015)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from deephash.codes import hard_bits
from deephash.functional.unit_features import unit_features
from deephash.projections.online.base import share_label
from deephash.projections.online.unit_projection import UnitProjection
from deephash.validation import check_fraction, check_positive


def bits_to_move(margins: Tensor, similar: bool, alpha: float) -> Tensor:
    """Choose the bits of a pair that an update moves: the wrong bits with the largest margins, as many as needed.

    A bit is wrong if similar items differ in it, or if other items agree in it. Similar items may differ in (1 - α) k
    bits, and others must differ in α k.

    Args:
        margins: margins of the two items, floating (2, k).
        similar: whether the items should be near.
        alpha: α.

    Returns:
        Indices of the bits, int64; empty if the pair satisfies its bound.
    """
    bits = hard_bits(margins)
    differing = bits[0] != bits[1]
    k, distance = len(differing), int(differing.sum())
    missing = distance - (1 - alpha) * k if similar else alpha * k - distance
    wrong = torch.nonzero(differing == similar).flatten()
    by_margin = margins.abs().amax(0)[wrong].argsort(descending=True, stable=True)
    # Rounding can bring `missing` slightly above a whole number of bits.
    return wrong[by_margin[: max(0, math.ceil(missing - 1e-9))]]


def pair_gradient(weights: Tensor, pair: Tensor, similar: bool, moved: Tensor) -> Tensor:
    """Gradient of (f(x)ᵀ f(y) - k s)² in some columns of W, with the smooth code f(x) = tanh(Wᵀ x / 2) and s = ±1.

    Args:
        weights: W (d, k).
        pair: x and y as rows, (2, d).
        similar: whether s = 1.
        moved: int64, indices of these columns.

    Returns:
        (d, k), 0 in the other columns.
    """
    soft = torch.tanh(pair @ weights / 2)
    excess = 2 * ((soft[0] @ soft[1]) - soft.shape[1] * (1.0 if similar else -1.0))
    # The slope of each item times the value of the other item.
    slopes = (1 - soft.square()) / 2 * soft.flip(0)
    gradient = torch.zeros_like(weights)
    gradient[:, moved] = excess * (pair.T @ slopes[:, moved])
    return gradient


@final
class AdaptHash(UnitProjection):
    """Adaptive hashing: learns hyperplanes from pairs, by gradient steps only for the bits that are wrong.

    Items are paired in the order of their arrival; a pair is similar if it shares a label. A pair whose Hamming
    distance satisfies its bound changes nothing. Otherwise, just enough wrong bits to reach the bound take a gradient
    step, those with the largest margins first. All bits then take a step on ‖Wᵀ W - I‖², which pulls the hyperplanes
    towards orthogonality. Features are centred by the mean of the first batch and scaled to unit length.
    Known weakness: like OKH, it looks at one pair at a time, and with several classes most pairs are dissimilar.

    Shape:
        features (n, d) → projections (n, k). The last item of an odd batch has no partner and is left out.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        alpha: share of bits in which dissimilar items must differ, and similar items must agree; .9 in the authors'
            code.
        regularisation: λ, the weight of the pull towards orthogonality; .01 in the authors' code.
        step_size: step size of the gradient; 1 in the authors' code.

    Raises:
        InvalidInputError: alpha is outside 0 to 1, or regularisation or step_size is not above 0.

    References:
        Cakir & Sclaroff, "Adaptive hashing for fast similarity search", ICCV 2015.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2

    def __init__(
        self, input_dim: int, output_dim: int, alpha: float = 0.9, regularisation: float = 0.01, step_size: float = 1.0
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_fraction(alpha, "alpha")
        check_positive(regularisation, "regularisation")
        check_positive(step_size, "step_size")
        self.alpha = alpha
        self.regularisation = regularisation
        self.step_size = step_size

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        pairs = len(features) // 2
        similar = share_label(labels[0 : 2 * pairs : 2], labels[1 : 2 * pairs : 2]).tolist()
        inputs = unit_features(features[: 2 * pairs], self.mean).view(pairs, 2, -1)
        weights = self.directions.detach().clone()
        identity = torch.eye(self.output_dim, dtype=weights.dtype, device=weights.device)
        for pair, is_similar in zip(inputs, similar, strict=True):
            moved = bits_to_move(pair @ weights, is_similar, self.alpha)
            if len(moved):
                step = self.step_size * pair_gradient(weights, pair, is_similar, moved)
                step += self.regularisation * (weights @ (weights.T @ weights - identity))
                weights = normalize(weights - step, dim=0)
        self.directions.copy_(weights)
