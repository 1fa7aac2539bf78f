"""Clipping of gradients when only some weights are sharded."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from deephash.training.constraints import gather_whole


def has_sharded(weights: Iterable[Tensor]) -> bool:
    """Return whether any of these weights is sharded."""
    return any(isinstance(weight, DTensor) for weight in weights)


def clip_norm(weights: Iterable[Tensor], most: float) -> None:
    """Clip the norm of all gradients, sharded or not, as one vector, in place.

    torch's `clip_grad_norm_` does not accept sharded and other gradients together.

    Args:
        weights: weights; those without a gradient are ignored.
        most: maximum norm.
    """
    weights = list(weights)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    kinds = [[each for each in gradients if isinstance(each, DTensor) is sharded] for sharded in (False, True)]
    norms = [gather_whole(get_total_norm(kind)) for kind in kinds if kind]
    if norms:
        clip_grads_with_norm_(weights, most, torch.stack(norms).norm(), foreach=False)
