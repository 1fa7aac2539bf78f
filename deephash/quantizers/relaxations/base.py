"""The contract of a relaxation: margins → values in [-1, 1] through which gradients pass."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.validation import check_fraction


class Relaxation(PlainArguments, nn.Module, ABC):
    """A stand-in for the step of a threshold, whose own gradient is zero wherever it is defined.

    A margin is a projection's distance from its threshold, measured in joint training by the projection's mean absolute
    deviation. The bit it stands for follows the zero rule: bit 1, here +1, where margin >= 0. In evaluation mode every
    relaxation keeps that side: its value is >= 0 exactly where the margin is. In training mode one may draw the side,
    from torch's default generator, or choose it by the batch.

    A relaxation of the batch takes the last axis of the margins for bits and all before it for items, and knows the
    items of its own process alone.

    Shape:
        margins, any shape → the same shape and dtype, in [-1, 1].
    """

    progress: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.tensor(0.0))

    @abstractmethod
    def forward(self, margins: Tensor) -> Tensor:
        """Relaxed bits of margins, differentiable."""

    def set_progress(self, progress: float) -> None:
        """Say how much of the training is done, by which a continuation sharpens.

        Args:
            progress: t from 0, the start, to 1, the end.

        Raises:
            InvalidInputError: t outside [0, 1].
        """
        check_fraction(progress, "progress")
        self.progress.fill_(progress)
