"""Stochastic binary neurons with the gradient of their mean (Bengio, Léonard & Courville, 2013; SGH, ICML 2017)."""

from typing import final

import torch
from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step, signs, with_gradient_of
from deephash.quantizers.relaxations.base import Relaxation


@final
class StochasticNeuron(Relaxation):
    """Forward: random hard bits, 1 with probability σ(m). Backward: the gradient of their mean, 2 σ(m) - 1.

    The loss of the mean code is not the mean loss of codes, so this gradient is a biased estimate of that of the
    latter. Draws sometimes try the other side of a threshold, more rarely for larger margins. In evaluation mode the
    more probable bit is taken. Known weakness: the noise is the same throughout training, whereas
    `BinaryConcrete` introduces it gradually; codes are stable only if margins are large.

    Shape:
        margins, any shape → ±1, the same shape and dtype.

    References:
        Bengio, Léonard & Courville, "Estimating or propagating gradients through stochastic neurons for conditional
        computation", 2013. As neurons of a hash code: Dai, Guo, Kumar, He & Song, "Stochastic generative hashing", ICML
        2017.
    """

    def forward(self, margins: Tensor) -> Tensor:
        """Return ±1, drawn in training mode, by the zero rule in evaluation mode."""
        # 2 σ(m) - 1 = tanh(m / 2).
        mean = (margins / 2).tanh()
        if not self.training:
            return hard_step(margins, mean)
        return with_gradient_of(signs(margins.detach().sigmoid() - torch.rand_like(margins)), mean)
