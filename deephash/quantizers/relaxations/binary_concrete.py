"""Binary concrete neurons, also Gumbel-sigmoid (Maddison, Mnih & Teh, ICLR 2017; Jang, Gu & Poole, ICLR 2017)."""

from typing import final

import torch
from torch import Tensor

from deephash.functional.annealing import check_falling, geometric
from deephash.functional.surrogate_gradient import hard_step
from deephash.quantizers.relaxations.base import Relaxation


def logistic_noise(margins: Tensor) -> Tensor:
    """Draw from the logistic distribution for each margin: the difference of two Gumbel variables."""
    uniform = torch.rand_like(margins)
    return uniform.log() - (-uniform).log1p()


@final
class BinaryConcrete(Relaxation):
    """A relaxed random bit: 2 σ((m + L) / τ) - 1 with logistic noise L and a temperature τ that falls in training.

    The bit is 1 with probability σ(m) at any temperature τ. As τ falls to 0, the value tends to the drawn ±1. The
    gradient is that of the value for fixed noise. Training makes the bits robust to noise, because two draws for the
    same item agree only if its margins are large. τ falls geometrically with the progress t. In evaluation mode there
    is no noise and the bits are hard. Known weakness: in long codes the noise of all bits adds up, so distances carry
    little information until margins have grown.

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    Args:
        initial_temperature: τ at progress 0; 1 as in Jang et al.
        final_temperature: τ at progress 1; with 0.2, nine values in ten exceed .5 in magnitude at margin 0.
        hard: whether values are ±1 in training too, with the gradient of the relaxed ones (Jang et al., section 2.2).

    Raises:
        InvalidInputError: a temperature is not above 0, or rises.

    References:
        Maddison, Mnih & Teh, "The concrete distribution: a continuous relaxation of discrete random variables", ICLR
        2017, appendix B. Jang, Gu & Poole, "Categorical reparameterization with Gumbel-softmax", ICLR 2017.
    """

    def __init__(self, initial_temperature: float = 1.0, final_temperature: float = 0.2, hard: bool = False) -> None:
        super().__init__()
        check_falling(initial_temperature, final_temperature, "temperature")
        self.initial_temperature = initial_temperature
        self.final_temperature = final_temperature
        self.hard = hard

    def forward(self, margins: Tensor) -> Tensor:
        """Return relaxed draws in training mode, ±1 by the zero rule in evaluation mode."""
        # 2 σ(x) - 1 = tanh(x / 2).
        halved = 2 * geometric(self.initial_temperature, self.final_temperature, self.progress)
        if not self.training:
            return hard_step(margins, (margins / halved).tanh())
        noisy = margins + logistic_noise(margins)
        relaxed = (noisy / halved).tanh()
        return hard_step(noisy, relaxed) if self.hard else relaxed
