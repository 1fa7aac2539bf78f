"""tanh whose steepness grows with the number of steps (Yamada, Asai & Hajishirzi, ACL 2021)."""

from typing import final

import torch
from torch import Tensor

from deephash.quantizers.relaxations.base import Relaxation
from deephash.validation import check_positive


@final
class GrowingTanh(Relaxation):
    """tanh(β m) with β = √(γ t + 1) after t steps of training.

    The steepness grows with the number of steps and not with their share, so that longer training ends with harder
    bits: β is 3.3 after 100 steps and 10 after 1,000. `Tanh` ends at the same β however many steps there are.
    Known weakness: a short training ends with soft bits, and codes lose what the thresholds discard.

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    Args:
        gamma: γ, .1 as in the paper.

    Raises:
        InvalidInputError: gamma is not above 0.

    References:
        Yamada, Asai & Hajishirzi, "Efficient passage retrieval with hashing for open-domain question answering", ACL
        2021, Section 3.2, after Cao, Long, Wang & Yu, "HashNet: deep learning to hash by continuation", ICCV 2017.
    """

    step: Tensor

    def __init__(self, gamma: float = 0.1) -> None:
        super().__init__()
        check_positive(gamma, "gamma")
        self.gamma = gamma
        self.register_buffer("step", torch.tensor(0))

    def set_step(self, step: int) -> None:
        """Set t, the number of steps so far."""
        self.step.fill_(step)

    def forward(self, margins: Tensor) -> Tensor:
        """Return tanh(β · margins) at the current β."""
        return (margins * (self.gamma * self.step + 1).sqrt().to(margins.dtype)).tanh()
