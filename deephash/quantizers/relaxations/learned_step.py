"""A step whose size is learnt, as in LSQ (Esser, McKinstry, Bablani, Appuswamy & Modha, ICLR 2020)."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.functional.surrogate_gradient import hard_step, learning_within
from deephash.quantizers.relaxations.base import Relaxation
from deephash.validation import check_positive


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """The value as it is, its gradient times a factor."""
    return value.detach() + (value - value.detach()) * factor


@final
class LearnedStep(Relaxation):
    """Hard bits forward; backward, the gradient of m/s clipped to [-1, 1], to margins and to the step size s itself.

    LSQ quantises v to v̂ = s·v̄ with v̄ a rounded v/s, and lets the gradient pass the rounding, so that ∂v̂/∂v is 1 within
    the range and 0 beyond, and ∂v̂/∂s is v̄ - v/s within and v̄ beyond (Eq. 3 and 5). Codes have no size, only signs: the
    value here is v̂/s, whose gradients follow by the quotient rule, 1/s to m and -m/s² to s, and 0 for both where
    |m| > s. As in the paper the gradient of s is scaled by 1/√n, n the margins of an item, lest it outweigh the others.
    So which margins still learn, a setting of `StraightThrough`, is itself trained. Known weakness: losses that ask for
    distances out of reach narrow s until few margins learn, which a lower `train.rates` for the quantiser slows.

    Shape:
        margins (..., b) → ±1, the same shape and dtype.

    Args:
        initial_step: s at the start; 2 as in the paper, twice the mean absolute margin.

    Raises:
        InvalidInputError: a step not above 0.

    References:
        Esser, McKinstry, Bablani, Appuswamy & Modha, "Learned step size quantization", ICLR 2020.
    """

    def __init__(self, initial_step: float = 2.0) -> None:
        super().__init__()
        check_positive(initial_step, "initial_step")
        self.initial_step = initial_step
        self.step = nn.Parameter(torch.tensor(float(initial_step)))

    def forward(self, margins: Tensor) -> Tensor:
        """±1 of margins by the zero rule."""
        features = margins.shape[-1] if margins.ndim else 1
        step = scale_gradient(self.step, max(1, features) ** -0.5).to(margins.dtype)
        # A step that an optimiser carries past 0 comes back from it.
        step = step.abs().clamp_min(torch.finfo(margins.dtype).eps)
        return hard_step(margins, learning_within(margins / step, 1.0))
