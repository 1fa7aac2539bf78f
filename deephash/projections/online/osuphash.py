"""Online supervised hashing: codewords for classes as they appear, bits boosted online (Cakir et al., CVIU 2017)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.principal_components import feature_mean
from deephash.functional.unit_features import random_unit_directions, unit_features
from deephash.projections.online.base import OnlineProjection
from deephash.validation import check_count, check_positive

# The weight of an item is at most e to this: after a drift the exponential of many wrong margins knows no bound, and
# one item would throw all hyperplanes away.
MAX_EXPONENT = 1.0


def boosted_steps(margins: list[float], squared_length: float, step_size: float) -> list[float]:
    """How far each bit's function moves along x c_j, from the first bit to the last.

    Bit j lowers exp(-Σ_{l<=j} c_l w_lᵀ x) by a gradient step, those before it having taken theirs: what they get right
    already weighs less for it, and what they get wrong more.

    Args:
        margins: c_j w_jᵀ x of each bit, positive where it is right.
        squared_length: ‖x‖².
        step_size: of the gradient.

    Returns:
        The step of each bit, above 0.
    """
    before, steps = 0.0, []
    for margin in margins:
        step = step_size * math.exp(min(-(before + margin), MAX_EXPONENT))
        steps.append(step)
        before += margin + step * squared_length
    return steps


def hinge_steps(margins: list[float], step_size: float) -> list[float]:
    """How far each bit's function moves along x c_j by a subgradient step of max(0, 1 - c_j w_jᵀ x), each by itself.

    Args:
        margins: c_j w_jᵀ x of each bit.
        step_size: of the subgradient.

    Returns:
        The step of each bit: its size where the margin is below 1, else 0.
    """
    return [step_size if margin < 1 else 0.0 for margin in margins]


@final
class OSupHash(OnlineProjection):
    """Hyperplanes for the bits of random codewords, one codeword a class, drawn when the class first appears.

    An error-correcting output code needs no number of classes beforehand, and an item is learnt from by itself: neither
    pairs nor a store. Bits are boosted online: an item counts the more for a bit, the more the bits before it have got
    it wrong. An item of several labels is learnt once for each. Features are centred by the first batch's mean and
    scaled to unit length.
    Known weakness: codewords are random, so that some classes lie nearer than they should; a step size is to be chosen;
    linear. Boosted, the last of many bits learn little, for most items are right by those before them; the authors'
    code learns each bit by itself unless told otherwise, by the hinge loss: `boosted=False`.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, any.
        step_size: of the gradient; .1 in the authors' code.
        boosted: whether bits are boosted, or each learnt by itself.
        classes: number of classes c that there are codewords for; it grows with the labels that come.

    Attributes:
        codewords: float32 (c, k), ±1.

    Raises:
        InvalidInputError: step_size not above 0, classes below 1.

    References:
        Cakir, Bargal & Sclaroff, "Online supervised hashing", CVIU 2017; Cakir & Sclaroff, "Online supervised hashing
        for ever-growing datasets", arXiv 1511.03257; Dietterich & Bakiri, JAIR 1995, for the codes.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    mean: Tensor
    codewords: Tensor

    def __init__(
        self, input_dim: int, output_dim: int, step_size: float = 0.1, boosted: bool = True, classes: int = 1
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_positive(step_size, "step_size")
        check_count(classes, "classes")
        self.step_size = step_size
        self.boosted = boosted
        self.classes = classes
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("codewords", torch.zeros(classes, output_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Inner products of unit features with directions."""
        return unit_features(features, self.mean) @ self.directions

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.mean.copy_(feature_mean(features))
        self.directions.copy_(random_unit_directions(self.input_dim, self.output_dim, generator))
        self.classes = 0
        self.codewords = self.codewords[:0].clone()

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        self._draw_codewords(labels.shape[1] if labels.ndim > 1 else int(labels.max()) + 1, generator)
        inputs = unit_features(features, self.mean)
        weights = self.directions.detach().clone()
        own = (
            labels[:, None].tolist() if labels.ndim == 1 else [torch.nonzero(row).flatten().tolist() for row in labels]
        )
        for x, classes in zip(inputs, own, strict=True):
            length = float(x.square().sum())
            for codeword in self.codewords[classes].to(weights):
                margins = ((x @ weights) * codeword).tolist()
                if self.boosted:
                    steps = boosted_steps(margins, length, self.step_size)
                else:
                    steps = hinge_steps(margins, self.step_size)
                weights += torch.outer(x, codeword * torch.tensor(steps).to(weights))
        self.directions.copy_(weights)

    def _draw_codewords(self, classes: int, generator: torch.Generator) -> None:
        """Codewords of fair coins for classes that have none."""
        if classes > self.classes:
            drawn = torch.randint(2, (classes - self.classes, self.output_dim), generator=generator) * 2 - 1
            self.codewords = torch.cat([self.codewords, drawn.to(self.codewords)])
            self.classes = classes
