"""Learning rates that suit weights of any scale."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.hasher_views import get_views

# Parts whose weights are a solution in the scale of the data, where a network's are drawn in one of their own.
SOLUTIONS = ("projection", "quantizer")


def parameter_groups(
    parts: Mapping[str, nn.Module], rates: Mapping[str, float], sizes: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A group of an optimiser for each parameter that learns, with the factor of the optimiser's rate as "rate".

    Decay pulls towards 0, which makes sense for a network's matrices alone.

    Args:
        parts: modules by name.
        rates: a factor for each part, 1 where it is not named.
        sizes: as `weight_sizes` gives.
    """
    groups = []
    for part, module in parts.items():
        for name, weight in module.named_parameters():
            if weight.requires_grad:
                size = sizes[f"{part}.{name}"] if part in SOLUTIONS else 1.0
                group: dict[str, Any] = {"params": [weight], "rate": float(rates.get(part, 1.0)) * size}
                if part in SOLUTIONS or weight.ndim < 2:
                    group["weight_decay"] = 0.0
                groups.append(group)
    return groups


def weight_sizes(hasher: Hasher | CrossModalHasher) -> dict[str, float]:
    """What a relative rate of 1 is for each weight of projection and quantiser, by its name.

    Their solutions come in the scales of the data, and an optimiser that normalises gradients, as Adam, moves all
    weights alike: a step that is nothing to a bandwidth of 20 wrecks directions of .04. So a projection's weights move
    relative to their root mean square, and whatever is compared with projections, as thresholds and offsets that are 0,
    relative to the projections' mean absolute deviation.

    Args:
        hasher: fitted and calibrated.
    """
    deviations = {
        id(weight): float(one.quantizer.unit.mean())
        for one in get_views(hasher).values()
        for weight in one.parameters()
    }
    sizes = {}
    for part in SOLUTIONS:
        for name, weight in hasher.get_submodule(part).named_parameters():
            size = float(weight.detach().double().square().mean().sqrt())
            compared = size == 0 or name.rpartition(".")[2] == "thresholds"
            sizes[f"{part}.{name}"] = deviations[id(weight)] if compared else size
    return sizes
