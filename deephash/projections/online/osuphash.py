"""Online supervised hashing: codewords for classes as they appear, bits boosted online (Cakir et al., CVIU 2017)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.unit_features import unit_features
from deephash.projections.online.base import count_classes
from deephash.projections.online.unit_projection import UnitProjection
from deephash.validation import check_count, check_positive

# The weight of an item is at most e to this power. After a drift, the exponential of many wrong margins is otherwise
# unbounded, and a single item would destroy all hyperplanes.
MAX_EXPONENT = 1.0


def boosted_steps(margins: list[float], squared_length: float, step_size: float) -> list[float]:
    """Step length of each bit along x c_j, from the first bit to the last.

    Bit j takes a gradient step on exp(-Σ_{l<=j} c_l w_lᵀ x), after the steps of the previous bits. If these are right,
    the item counts less for bit j; if they are wrong, it counts more.

    Args:
        margins: c_j w_jᵀ x of each bit, positive if it is right.
        squared_length: ‖x‖².
        step_size: step size of the gradient.

    Returns:
        The step of each bit, above 0.
    """
    total, steps = 0.0, []
    for margin in margins:
        step = step_size * math.exp(min(-(total + margin), MAX_EXPONENT))
        steps.append(step)
        total += margin + step * squared_length
    return steps


def hinge_steps(margins: list[float], step_size: float) -> list[float]:
    """Step length of each bit along x c_j, by a subgradient step of max(0, 1 - c_j w_jᵀ x), independent of other bits.

    Args:
        margins: c_j w_jᵀ x of each bit.
        step_size: step size of the subgradient.

    Returns:
        The step of each bit: the step size if the margin is below 1, otherwise 0.
    """
    return [step_size if margin < 1 else 0.0 for margin in margins]


@final
class OSupHash(UnitProjection):
    """Online supervised hashing: learns hyperplanes for the bits of random codewords, one codeword per class.

    A codeword is drawn when its class first appears, so the number of classes need not be known. Each item causes a
    gradient step on its own; no pairs or stored items are needed. Bits are boosted online: an item counts more for a
    bit if the previous bits get it wrong. An item with several labels is learnt once for each label. Features are
    centred by the mean of the first batch and scaled to unit length.
    Known weakness: codewords are random, so that some classes are nearer than they should be; it is linear and needs a
    step size. With boosting, the last of many bits learn little, because the previous bits get most items right. With
    `boosted=False`, each bit is learnt independently by the hinge loss, which is the default of the authors' code.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        step_size: step size of the gradient; .1 in the authors' code.
        boosted: whether bits are boosted; otherwise each is learnt independently.
        classes: number of classes c that have codewords; it grows with the labels.

    Attributes:
        codewords: float32 (c, k), ±1.

    Raises:
        InvalidInputError: step_size is not above 0, or classes is below 1.

    References:
        Cakir, Bargal & Sclaroff, "Online supervised hashing", CVIU 2017; the same authors, "Online supervised
        hashing for ever-growing datasets", arXiv 1511.03257; Dietterich & Bakiri, JAIR 1995, for the codes.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

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
        self.register_buffer("codewords", torch.zeros(classes, output_dim))

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        super()._start(features, labels, generator)
        self.classes = 0
        self.codewords = self.codewords[:0].clone()

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        self._draw_codewords(count_classes(labels), generator)
        weights = self.directions.detach().clone()
        labels_of_items = (
            labels[:, None].tolist() if labels.ndim == 1 else [torch.nonzero(row).flatten().tolist() for row in labels]
        )
        for x, classes in zip(unit_features(features, self.mean), labels_of_items, strict=True):
            squared_length = float(x.square().sum())
            for codeword in self.codewords[classes].to(weights):
                margins = ((x @ weights) * codeword).tolist()
                if self.boosted:
                    steps = boosted_steps(margins, squared_length, self.step_size)
                else:
                    steps = hinge_steps(margins, self.step_size)
                weights += torch.outer(x, codeword * torch.tensor(steps).to(weights))
        self.directions.copy_(weights)

    def _draw_codewords(self, classes: int, generator: torch.Generator) -> None:
        """Draw random codewords for classes that have none."""
        if classes > self.classes:
            drawn = torch.randint(2, (classes - self.classes, self.output_dim), generator=generator) * 2 - 1
            self.codewords = torch.cat([self.codewords, drawn.to(self.codewords)])
            self.classes = classes
