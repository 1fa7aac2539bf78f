"""Gradients of which processes hold parts, beside others that each holds whole, as one vector."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from deephash.training.constraints import whole


def any_sharded(weights: Iterable[Tensor]) -> bool:
    """Whether processes hold parts of any of these weights."""
    return any(isinstance(weight, DTensor) for weight in weights)


def clip_norm(weights: Iterable[Tensor], most: float) -> None:
    """Clip the norm of the gradients of both kinds of weights, as one vector, in place.

    torch's own `clip_grad_norm_` takes one kind at a time.

    Args:
        weights: of which those without a gradient are left out.
        most: the largest norm.
    """
    weights = list(weights)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    kinds = [[one for one in gradients if isinstance(one, DTensor) is spread] for spread in (False, True)]
    norms = [whole(get_total_norm(kind)) for kind in kinds if kind]
    if norms:
        clip_grads_with_norm_(weights, most, torch.stack(norms).norm(), foreach=False)
