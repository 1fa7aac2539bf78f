"""Hard values forward, the gradient of a smooth function backward: the basis of straight-through estimators."""

from typing import Any

import torch
from torch import Tensor


class _SurrogateGradient(torch.autograd.Function):
    """Forward: the first argument. Backward: the whole gradient to the second."""

    @staticmethod
    def forward(values: Tensor, surrogate: Tensor) -> Tensor:
        # Adding and subtracting the surrogate instead would leave rounding errors on ±1.
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def with_gradient_of(values: Tensor, surrogate: Tensor) -> Tensor:
    """Return the exact values, with the gradient of another tensor of the same shape and dtype.

    Args:
        values: any shape, without gradient.
        surrogate: tensor of the same shape and dtype.

    Examples:
        >>> margins = torch.tensor([-2.0, 0.5], requires_grad=True)
        >>> with_gradient_of(signs(margins.detach()), learning_within(margins, 1)).sum().backward()
        >>> margins.grad
        tensor([0., 1.])
    """
    through: Tensor = _SurrogateGradient.apply(values, surrogate)
    return through


def learning_within(values: Tensor, limit: float) -> Tensor:
    """Return the values, with gradient 1 if |value| <= limit and 0 beyond.

    Releases of torch differ in the gradient of `clamp` exactly at its limits.
    """
    return torch.where(values.detach().abs() <= limit, values, values.detach())


def signs(margins: Tensor) -> Tensor:
    """Return ±1 by the zero rule, +1 if margin >= 0, in the margins' shape and dtype."""
    return torch.where(margins >= 0, 1.0, -1.0).to(margins.dtype)


def hard_step(margins: Tensor, surrogate: Tensor) -> Tensor:
    """Return ±1 of the margins by the zero rule, with the gradient of a surrogate."""
    return with_gradient_of(signs(margins.detach()), surrogate)
