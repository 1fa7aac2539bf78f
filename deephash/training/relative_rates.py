"""Learning rates relative to the scale of each weight."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from deephash.encoders.pretrained_encoder import PretrainedEncoder
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.hasher_views import get_views

# Parts whose fitted weights have the scale of the data; the weights of networks have a fixed initial scale.
SOLUTIONS = ("projection", "quantizer")


def parameter_groups(
    parts: Mapping[str, nn.Module], rates: Mapping[str, float], sizes: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return an optimiser group for each parameter that learns, with the factor of the learning rate as "rate".

    Weight decay pulls towards 0, so it only applies to matrices of networks.

    Args:
        parts: modules by name.
        rates: factor for each part, 1 by default.
        sizes: result of `compute_weight_sizes`.
    """
    groups = []
    pretrained = find_pretrained_rates(parts.values())
    for part, module in parts.items():
        for name, weight in module.named_parameters():
            if weight.requires_grad:
                size = sizes[f"{part}.{name}"] if part in SOLUTIONS else 1.0
                group: dict[str, Any] = {"params": [weight], "rate": float(rates.get(part, 1.0)) * size}
                group["rate"] *= pretrained.get(id(weight), 1.0)
                if part in SOLUTIONS or weight.ndim < 2:
                    group["weight_decay"] = 0.0
                groups.append(group)
    return groups


def find_pretrained_rates(modules: Iterable[nn.Module]) -> dict[int, float]:
    """Return the factor of the learning rate of each weight of a pretrained network, by the identity of the weight."""
    encoders = [part for module in modules for part in module.modules() if isinstance(part, PretrainedEncoder)]
    return {id(weight): encoder.rate for encoder in encoders for weight in encoder.parameters()}


def compute_weight_sizes(hasher: Hasher | CrossModalHasher) -> dict[str, float]:
    """Return the step size that a relative rate of 1 means for each weight of projection and quantiser, by name.

    Fitted weights have the scales of the data, but optimisers that normalise gradients, such as Adam, move all weights
    by equal steps: a step that is negligible for a bandwidth of 20 ruins a direction with entries of .04. So weights of
    a projection move relative to their root mean square. Thresholds, and offsets that are 0, are compared with
    projections, so they move relative to the mean absolute deviation of the projections.

    Args:
        hasher: fitted and calibrated hasher.
    """
    deviations = {
        id(weight): float(view.quantizer.unit.mean())
        for view in get_views(hasher).values()
        for weight in view.parameters()
    }
    sizes = {}
    for part in SOLUTIONS:
        for name, weight in hasher.get_submodule(part).named_parameters():
            size = float(weight.detach().double().square().mean().sqrt())
            is_offset = size == 0 or name.rpartition(".")[2] == "thresholds"
            sizes[f"{part}.{name}"] = deviations[id(weight)] if is_offset else size
    return sizes
