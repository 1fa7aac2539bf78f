"""Constraints on a hasher's weights while gradients move them, and the hasher without them again."""

from torch import nn
from torch.nn.utils import parametrize

from deephash.functional.orthonormal_columns import OrthonormalColumns
from deephash.hasher import Hasher
from deephash.projections.base import Projection


def keep_orthonormal(projection: Projection) -> None:
    """Constrain what a projection declares orthonormal to stay so, from its present values on."""
    for name in projection.orthonormal:
        parametrize.register_parametrization(projection, name, OrthonormalColumns())


def plain_hasher(hasher: Hasher) -> Hasher:
    """A copy on the CPU with weights of its own, as a stored hasher's: constraints become their values."""
    weights = {name: weight for name, weight in hasher.state_dict().items() if ".parametrizations." not in name}
    for place, module in hasher.named_modules():
        if parametrize.is_parametrized(module):
            assert isinstance(module.parametrizations, nn.ModuleDict)
            weights |= {f"{place}.{name}": getattr(module, name) for name in module.parametrizations}
    plain = Hasher.build(hasher.description())
    plain.load_state_dict({name: weight.detach().cpu().clone() for name, weight in weights.items()}, assign=True)
    return plain
