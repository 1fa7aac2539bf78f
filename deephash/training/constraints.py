"""Constraints on a hasher's weights while gradients move them, and the hasher without them again."""

from typing import Any, TypeVar, cast

from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import parametrize

from deephash.functional.orthonormal_columns import OrthonormalColumns
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.projections.base import Projection

H = TypeVar("H", bound=Hasher | CrossModalHasher)


def whole(value: Any) -> Any:
    """A tensor that processes hold parts of, in one piece on each of them; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def keep_orthonormal(projection: nn.Module) -> None:
    """Constrain what a projection, or those of two views, declare orthonormal to stay so, as it now is."""
    for part in list(projection.modules()):
        if isinstance(part, Projection):
            for name in part.orthonormal:
                parametrize.register_parametrization(part, name, OrthonormalColumns())


def plain_hasher(hasher: H) -> H:
    """A copy on the CPU with weights of its own, as a stored hasher's: constraints become their values.

    Where processes hold parts of the weights, all of them must ask.
    """
    weights = {name: weight for name, weight in hasher.state_dict().items() if ".parametrizations." not in name}
    for place, module in hasher.named_modules():
        if parametrize.is_parametrized(module):
            assert isinstance(module.parametrizations, nn.ModuleDict)
            weights |= {f"{place}.{name}": getattr(module, name) for name in module.parametrizations}
    plain = cast(H, type(hasher).build(hasher.describe()))
    plain.load_state_dict({name: whole(weight).detach().cpu().clone() for name, weight in weights.items()}, assign=True)
    return plain
