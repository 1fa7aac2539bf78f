"""Hard values forward, the gradient of something smooth backward: what straight-through estimators share."""

from typing import Any

import torch
from torch import Tensor


class _SurrogateGradient(torch.autograd.Function):
    """The first argument forward; backward, all of the gradient to the second."""

    @staticmethod
    def forward(values: Tensor, surrogate: Tensor) -> Tensor:
        # Adding and taking away the surrogate instead would leave rounding errors on ±1.
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def with_gradient_of(values: Tensor, surrogate: Tensor) -> Tensor:
    """Values, exactly, that have the gradient of another tensor of their shape and dtype.

    Args:
        values: any shape, without gradient.
        surrogate: of the same shape and dtype.

    Example:
        >>> margins = torch.tensor([-2.0, 0.5], requires_grad=True)
        >>> with_gradient_of(signs(margins.detach()), learning_within(margins, 1)).sum().backward()
        >>> margins.grad
        tensor([0., 1.])
    """
    through: Tensor = _SurrogateGradient.apply(values, surrogate)
    return through


def learning_within(values: Tensor, limit: float) -> Tensor:
    """The values, whose gradient is 1 where |value| <= limit and 0 beyond.

    Releases of torch differ in the gradient of `clamp` at its very limits.
    """
    return torch.where(values.detach().abs() <= limit, values, values.detach())


def signs(margins: Tensor) -> Tensor:
    """±1 by the zero rule, +1 where margin >= 0, in the margins' shape and dtype."""
    return torch.where(margins >= 0, 1.0, -1.0).to(margins.dtype)


def hard_step(margins: Tensor, surrogate: Tensor) -> Tensor:
    """±1 of margins by the zero rule, with the gradient of a surrogate of them."""
    return with_gradient_of(signs(margins.detach()), surrogate)
