"""Gradients of which processes hold parts, beside others that each holds whole, as one vector."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_value_, get_total_norm

from deephash.training.constraints import whole


def any_spread(weights: Iterable[Tensor]) -> bool:
    """Whether processes hold parts of any of these weights."""
    return any(isinstance(weight, DTensor) for weight in weights)


def clip_gradients(weights: Iterable[Tensor], most: float, by: str = "norm") -> None:
    """Clip the gradients of both kinds of weights together, in place; torch's own clipping takes one kind at a time.

    Args:
        weights: with gradients, of which those without one are left out.
        most: the largest norm of all gradients as one vector, or the largest size of an element.
        by: "norm" or "value".
    """
    found = [weight for weight in weights if weight.grad is not None]
    kinds = [[weight for weight in found if isinstance(weight, DTensor) is spread] for spread in (False, True)]
    kinds = [kind for kind in kinds if kind]
    if by == "value":
        for kind in kinds:
            clip_grad_value_(kind, most)
        return
    norms = [whole(get_total_norm([weight.grad for weight in kind if weight.grad is not None])) for kind in kinds]
    if not norms:
        return
    factor = float((most / (torch.stack(norms).norm() + 1e-6)).clamp_max(1.0))
    for weight in found:
        assert weight.grad is not None
        weight.grad.mul_(factor)
