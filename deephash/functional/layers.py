"""Layers of networks: checks of their settings, construction, and random weights from a generator."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from deephash.validation import InvalidInputError, check_count, check_fraction


def build_hidden_layers(input_dim: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Build a linear map, ReLU and dropout for each hidden width.

    Args:
        input_dim: dimension of the input.
        hidden: widths of the layers.
        dropout: share of a layer's values set to 0 in training.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(input_dim, width), nn.ReLU(), nn.Dropout(dropout)]
        input_dim = width
    return nn.Sequential(*layers)


def check_widths(widths: Iterable[int], name: str) -> list[int]:
    """Return the widths of layers as a list.

    Raises:
        InvalidInputError: not a list, an empty list, or a width below 1.
    """
    checked = list(widths) if isinstance(widths, Iterable) and not isinstance(widths, str) else []
    if not checked:
        raise InvalidInputError(f"{name}={widths!r}; expected a list of at least one width, such as [1024].")
    for width in checked:
        check_count(width, name)
    return checked


def check_dropout(dropout: float, name: str = "dropout") -> None:
    """Raise `InvalidInputError` if the dropout share of a name is outside [0, 1)."""
    check_fraction(dropout, name)
    if dropout == 1:
        raise InvalidInputError(f"{name}=1 sets a whole layer to 0; give a number below 1.")


@torch.no_grad()
def draw_layers(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every linear map and convolution for ReLUs, and set their biases to 0.

    Normal values of variance 2 / fan-in preserve the second moment from layer to layer (He, Zhang, Ren & Sun, "Delving
    deep into rectifiers", ICCV 2015, Eq. 10).

    Args:
        network: network to initialise, changed in place.
        generator: CPU generator of the draws.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            drawn = torch.empty(layer.weight.shape, dtype=torch.float64)
            layer.weight.copy_(nn.init.kaiming_normal_(drawn, nonlinearity="relu", generator=generator))
            if layer.bias is not None:
                layer.bias.zero_()
