"""A step whose size is learnt, as in LSQ (Esser, McKinstry, Bablani, Appuswamy & Modha, ICLR 2020)."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.functional.surrogate_gradient import hard_step, learning_within
from deephash.quantizers.relaxations.base import Relaxation
from deephash.validation import check_positive


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """Return the value unchanged, with its gradient multiplied by a factor."""
    return value.detach() + (value - value.detach()) * factor


@final
class LearnedStep(Relaxation):
    """Forward: hard bits. Backward: the gradient of m/s clipped to [-1, 1], for margins and for the step size s itself.

    LSQ quantises v to v̂ = s·v̄, where v̄ is v/s rounded, and lets the gradient pass the rounding. So ∂v̂/∂v is 1
    within the clipping range and 0 beyond, and ∂v̂/∂s is v̄ - v/s within and v̄ beyond (Eq. 3 and 5). Codes have signs
    but no size, so the value here is v̂/s. By the quotient rule, its gradient is 1/s for m and -m/s² for s, and 0 for
    both if |m| > s. As in the paper, the gradient of s is scaled by 1/√n, where n is the number of margins of an item,
    so that it does not dominate. The range of margins that learn, a setting of `StraightThrough`, is thus trained.
    Known weakness: losses that demand unreachable distances narrow s until few margins learn; a lower `train.rates` for
    the quantiser slows this.

    Shape:
        margins (..., b) → ±1, the same shape and dtype.

    Args:
        initial_step: s at the start; 2 as in the paper, twice the mean absolute margin.

    Raises:
        InvalidInputError: the step is not above 0.

    References:
        Esser, McKinstry, Bablani, Appuswamy & Modha, "Learned step size quantization", ICLR 2020.
    """

    def __init__(self, initial_step: float = 2.0) -> None:
        super().__init__()
        check_positive(initial_step, "initial_step")
        self.initial_step = initial_step
        self.step = nn.Parameter(torch.tensor(float(initial_step)))

    def forward(self, margins: Tensor) -> Tensor:
        """Return ±1 of the margins by the zero rule."""
        features = margins.shape[-1] if margins.ndim else 1
        step = scale_gradient(self.step, max(1, features) ** -0.5).to(margins.dtype)
        # An optimiser may carry the step past 0.
        step = step.abs().clamp_min(torch.finfo(margins.dtype).eps)
        return hard_step(margins, learning_within(margins / step, 1.0))
