"""Constraints on a hasher's weights during joint training, and copies of the hasher without constraints."""

from typing import Any, TypeVar, cast

from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import parametrize

from deephash.functional.orthonormal_columns import OrthonormalColumns
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.projections.base import Projection

H = TypeVar("H", bound=Hasher | CrossModalHasher)


def gather_whole(value: Any) -> Any:
    """Gather a sharded tensor on every process; return other values unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def keep_orthonormal(projection: nn.Module) -> None:
    """Constrain the parameters that projections declare orthonormal, so that they stay orthonormal."""
    for part in list(projection.modules()):
        if isinstance(part, Projection):
            for name in part.orthonormal:
                parametrize.register_parametrization(part, name, OrthonormalColumns())


def plain_hasher(hasher: H) -> H:
    """Copy a hasher to the CPU, with constrained weights replaced by their values.

    If weights are sharded, all processes must call this function.
    """
    weights = {name: weight for name, weight in hasher.state_dict().items() if ".parametrizations." not in name}
    for place, module in hasher.named_modules():
        if parametrize.is_parametrized(module):
            assert isinstance(module.parametrizations, nn.ModuleDict)
            weights |= {f"{place}.{name}": getattr(module, name) for name in module.parametrizations}
    plain = cast(H, type(hasher).build(hasher.describe()))
    plain.load_state_dict(
        {name: gather_whole(weight).detach().cpu().clone() for name, weight in weights.items()}, assign=True
    )
    return plain
