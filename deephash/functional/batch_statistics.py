"""Statistics of batch normalisation, measured over data instead of accumulated while training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from deephash.functional.evaluation_mode import evaluation_mode

# Number of items from which means and variances are accurate to a few hundredths; more would add little.
SAMPLE = 2048


@torch.no_grad()
def measure_batch_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running means and variances of every batch normalisation in a network to their averages over batches.

    All other layers are in evaluation mode meanwhile, and every module returns to its mode. A network with random
    weights needs this before its first use: with the initial means of 0 and variances of 1, activations would grow or
    shrink from layer to layer.

    Args:
        network: module that maps a batch to any output; changed in place.
        batches: batches of at least two items each.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    with evaluation_mode(network):
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
            layer.momentum = None  # a plain average over the batches
        for batch in batches:
            network(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def random_batches(features: Tensor, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw distinct rows at random, in batches of nearly equal size.

    Args:
        features: (n, d).
        count: number of rows, at most n.
        size: maximum number of rows per batch.
        generator: CPU generator of the draw.
    """
    rows = torch.randperm(len(features), generator=generator)[:count]
    return features[rows.to(features.device)].chunk(-(-len(rows) // size))
