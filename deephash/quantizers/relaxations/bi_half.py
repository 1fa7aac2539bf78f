"""The bi-half layer: bits that split each batch evenly (Li & van Gemert, AAAI 2021)."""

from typing import Any, final

import torch
from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step, signs
from deephash.quantizers.relaxations.base import Relaxation
from deephash.validation import InvalidInputError, check_number


def halves(margins: Tensor) -> Tensor:
    """Return +1 for the larger half of each column, -1 for the smaller; a middle value of an odd number keeps its sign.

    Of all columns with as many +1 as -1, the result is the nearest to the margins: the optimal transport of their
    values to ±1. Among equal values, earlier rows count as larger.

    Args:
        margins: floating (n, b).

    Returns:
        ±1 (n, b), of the same dtype.
    """
    half = len(margins) // 2
    order = margins.sort(dim=0, descending=True, stable=True).indices
    ranked = signs(margins.gather(0, order))
    ranked[:half] = 1
    ranked[len(margins) - half :] = -1
    return torch.empty_like(margins).scatter_(0, order, ranked)


class _BiHalf(torch.autograd.Function):
    """Forward: halves. Backward: the identity, plus γ/(n·b) times the distance from the assigned code."""

    @staticmethod
    def forward(margins: Tensor, gamma: float) -> Tensor:
        return halves(margins)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        margins, ctx.gamma = inputs
        ctx.save_for_backward(margins, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        margins, assigned = ctx.saved_tensors
        return gradient + ctx.gamma / margins.numel() * (margins - assigned), None


@final
class BiHalf(Relaxation):
    """In training, +1 for the half of a batch with the larger margins in each bit, and -1 for the other half.

    A bit carries most information if half of the items have it, so every batch is coded that way. The gradient passes
    unchanged, plus γ/(n·b)·(m - assigned). This term pulls margins towards the assigned codes, so that the signs
    finally split the items by themselves. In evaluation mode, and in stored codes, bits are signs.

    Known weakness: the pull acts even if no loss does, so γ has to suit the weight of the loss. A batch with unbalanced
    classes is split evenly too. Each process halves its own share of a batch. The layer is meant for one threshold per
    projection: with several, each of them halves the items.

    Shape:
        margins (..., b) → ±1, the same shape and dtype.

    Args:
        gamma: γ, for the mean over the n·b margins of the batch; 6 as in published code.

    Raises:
        InvalidInputError: γ below 0.

    References:
        Li & van Gemert, "Deep unsupervised image hashing by maximizing bit entropy", AAAI 2021, section 3.
    """

    def __init__(self, gamma: float = 6.0) -> None:
        super().__init__()
        check_number(gamma, "gamma")
        if gamma < 0:
            raise InvalidInputError(f"gamma={gamma!r}; expected 0 or more: below 0 it pushes margins off their codes.")
        self.gamma = gamma

    def forward(self, margins: Tensor) -> Tensor:
        """Return ±1: halves in training mode, signs by the zero rule in evaluation mode."""
        if not self.training or not margins.numel():
            return hard_step(margins, margins)
        rows = margins.reshape(-1, margins.shape[-1] if margins.ndim else 1)
        assigned: Tensor = _BiHalf.apply(rows, self.gamma)
        return assigned.view(margins.shape)
