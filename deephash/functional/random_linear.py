"""Linear layers with initial weights from a generator."""

import torch
from torch import nn


def random_linear(inputs: int, outputs: int, generator: torch.Generator | None = None) -> nn.Linear:
    """Return a linear layer with weights and biases uniform in ±1/√inputs, torch's own rule.

    Args:
        inputs: dimension of the input.
        outputs: dimension of the output.
        generator: CPU generator of the draw; None for one seeded with 0.
    """
    generator = generator or torch.Generator().manual_seed(0)
    layer = nn.Linear(inputs, outputs)
    bound = inputs**-0.5
    with torch.no_grad():
        for weight in layer.parameters():
            weight.uniform_(-bound, bound, generator=generator)
    return layer
