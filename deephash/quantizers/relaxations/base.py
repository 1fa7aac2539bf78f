"""Base class of relaxations: margins → values in [-1, 1] through which gradients pass."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.validation import check_fraction


class Relaxation(PlainArguments, nn.Module, ABC):
    """A differentiable stand-in for the step function of a threshold, whose gradient is 0 wherever it exists.

    A margin is a projection's distance from its threshold. In joint training, its unit is the projection's mean
    absolute deviation. The bit of a margin follows the zero rule: bit 1, here +1, if margin >= 0. In evaluation mode
    every relaxation keeps the side of the threshold: its value is >= 0 exactly if the margin is. In training mode a
    relaxation may draw the side from torch's default generator, or choose it from the batch.

    A relaxation that depends on the batch treats the last axis of the margins as bits and all axes before it as items.
    It sees only the items of its own process.

    Shape:
        margins, any shape → the same shape and dtype, in [-1, 1].
    """

    progress: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.tensor(0.0))

    @abstractmethod
    def forward(self, margins: Tensor) -> Tensor:
        """Return relaxed bits of the margins, differentiable."""

    def set_progress(self, progress: float) -> None:
        """Set the progress of training, by which continuations sharpen.

        Args:
            progress: t from 0, the start, to 1, the end.

        Raises:
            InvalidInputError: t outside [0, 1].
        """
        check_fraction(progress, "progress")
        self.progress.fill_(progress)

    def set_step(self, step: int) -> None:
        """Set the number of steps so far, for continuations that depend on it and not on its share.

        Args:
            step: number of steps of the optimiser, from 0.
        """
