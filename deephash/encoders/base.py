"""The contract of an encoder: features (n, d) → features (n, e) that a projection takes."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """What comes before the projection: nothing, a kernel map, a network.

    An encoder writes `fit` and `forward`. Weights that joint training may move are `nn.Parameter`s, all allocated in
    `__init__`, whose arguments are kept under their own names, as those of a projection are. Images come flat, as the
    rows that the data set gives, and the encoder says how it reads them.

    Shape:
        features (n, d) → features (n, e).

    Args:
        input_dim: feature dimension d.
        output_dim: dimension e of what it gives.
    """

    input_dim: int
    output_dim: int

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.output_dim = output_dim

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Encode features, (n, d) → (n, e), differentiably. Dropout and the like act in training mode alone."""

    @abstractmethod
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Set the weights from which training starts: whatever is drawn at random, and statistics of the data.

        Args:
            features: floating (n, d), the training items, on the device of the weights; not changed.
            generator: CPU generator of every random draw.

        Returns:
            self. Fitting again gives what a first fit gives.

        Raises:
            InvalidInputError: data from which nothing can be set.
        """
