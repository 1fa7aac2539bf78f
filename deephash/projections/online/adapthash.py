"""Adaptive hashing: gradient steps for the bits of a pair that are most wrong (Cakir & Sclaroff, ICCV 2015)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from deephash.codes import hard_bits
from deephash.functional.principal_components import feature_mean
from deephash.functional.unit_features import random_unit_directions, unit_features
from deephash.projections.online.base import OnlineProjection, same_label
from deephash.validation import check_fraction, check_positive


def bits_to_move(margins: Tensor, similar: bool, alpha: float) -> Tensor:
    """The bits of a pair that an update moves: of those that are wrong, the most decided, as many as are missing.

    A bit is wrong where similar items differ or others agree; similar items may differ in (1 - α) k bits, others must
    differ in α k.

    Args:
        margins: of the two items, floating (2, k).
        similar: whether they should be near.
        alpha: α.

    Returns:
        int64, the bits; none where the pair keeps its bound.
    """
    bits = hard_bits(margins)
    differing = bits[0] != bits[1]
    k, distance = len(differing), int(differing.sum())
    missing = distance - (1 - alpha) * k if similar else alpha * k - distance
    wrong = torch.nonzero(differing == similar).flatten()
    decided = margins.abs().amax(0)[wrong].argsort(descending=True, stable=True)
    # What is missing can round to a trace above a whole number of bits.
    return wrong[decided[: max(0, math.ceil(missing - 1e-9))]]


def pair_gradient(weights: Tensor, pair: Tensor, similar: bool, moved: Tensor) -> Tensor:
    """Gradient of (f(x)ᵀ f(y) - k s)², f(x) = tanh(Wᵀ x / 2) a smooth code and s = ±1, in some columns of W.

    Args:
        weights: W (d, k).
        pair: x and y as rows, (2, d).
        similar: whether s = 1.
        moved: int64, the columns that it is wanted for.

    Returns:
        (d, k), 0 in the other columns.
    """
    soft = torch.tanh(pair @ weights / 2)
    excess = 2 * ((soft[0] @ soft[1]) - soft.shape[1] * (1.0 if similar else -1.0))
    # Either item's slope meets the other item's value.
    slopes = (1 - soft.square()) / 2 * soft.flip(0)
    gradient = torch.zeros_like(weights)
    gradient[:, moved] = excess * (pair.T @ slopes[:, moved])
    return gradient


@final
class AdaptHash(OnlineProjection):
    """Hyperplanes moved by pairs, those bits alone that are wrong, and kept apart by a pull towards orthogonality.

    Items are taken two by two in the order of their arrival, similar where they share a label. A pair that keeps its
    bound changes nothing; else as many bits as are missing take a step of gradient, and all take one against
    ‖Wᵀ W - I‖². Features are centred by the first batch's mean and scaled to unit length.
    Known weakness: as OKH it sees a pair at a time, and with several classes most pairs are dissimilar.

    Shape:
        features (n, d) → projections (n, k). The last of an odd batch has no partner and is left out.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, any.
        alpha: share of bits in which dissimilar items must differ, and similar ones agree; .9 in the authors' code.
        regularisation: λ, of the pull towards orthogonality; .01 there.
        step_size: of the gradient; 1 there.

    Raises:
        InvalidInputError: alpha outside 0 to 1, regularisation or step_size not above 0.

    References:
        Cakir & Sclaroff, "Adaptive hashing for fast similarity search", ICCV 2015.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2

    mean: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        alpha: float = 0.9,
        regularisation: float = 0.01,
        step_size: float = 1.0,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_fraction(alpha, "alpha")
        check_positive(regularisation, "regularisation")
        check_positive(step_size, "step_size")
        self.alpha = alpha
        self.regularisation = regularisation
        self.step_size = step_size
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Inner products of unit features with unit directions."""
        return unit_features(features, self.mean) @ self.directions

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.mean.copy_(feature_mean(features))
        self.directions.copy_(random_unit_directions(self.input_dim, self.output_dim, generator))

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        pairs = len(features) // 2
        similar = same_label(labels[0 : 2 * pairs : 2], labels[1 : 2 * pairs : 2]).tolist()
        inputs = unit_features(features[: 2 * pairs], self.mean).view(pairs, 2, -1)
        weights = self.directions.detach().clone()
        identity = torch.eye(self.output_dim, dtype=weights.dtype, device=weights.device)
        for pair, alike in zip(inputs, similar, strict=True):
            moved = bits_to_move(pair @ weights, alike, self.alpha)
            if len(moved):
                step = self.step_size * pair_gradient(weights, pair, alike, moved)
                step += self.regularisation * (weights @ (weights.T @ weights - identity))
                weights = normalize(weights - step, dim=0)
        self.directions.copy_(weights)
