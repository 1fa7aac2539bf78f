"""Stochastic binary neurons with the gradient of their mean (Bengio, Léonard & Courville, 2013; SGH, ICML 2017)."""

from typing import final

import torch
from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step, signs, with_gradient_of
from deephash.quantizers.relaxations.base import Relaxation


@final
class StochasticNeuron(Relaxation):
    """Hard bits drawn by chance, 1 with probability σ(m); backward, the gradient of their mean, 2 σ(m) - 1.

    A loss of the mean code is not the mean loss of codes, and this estimates the gradient of the latter, with bias. The
    draws try the other side of a threshold now and then, and the less often the larger the margin. In evaluation mode
    the likelier bit is taken. Known weakness: noise of full size from first to last, where `BinaryConcrete` blends it
    in; margins of a few units are needed before codes are stable.

    Shape:
        margins, any shape → ±1, the same shape and dtype.

    References:
        Bengio, Léonard & Courville, "Estimating or propagating gradients through stochastic neurons for conditional
        computation", 2013. As neurons of a hash code: Dai, Guo, Kumar, He & Song, "Stochastic generative hashing", ICML
        2017.
    """

    def forward(self, margins: Tensor) -> Tensor:
        """±1, drawn in training mode, by the zero rule in evaluation mode."""
        # 2 σ(m) - 1 = tanh(m / 2).
        mean = (margins / 2).tanh()
        if not self.training:
            return hard_step(margins, mean)
        return with_gradient_of(signs(margins.detach().sigmoid() - torch.rand_like(margins)), mean)
