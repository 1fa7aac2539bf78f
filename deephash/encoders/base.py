"""The base class of encoders: features (n, d) → features (n, e) for a projection."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.validation import as_features

E = TypeVar("E", bound="Encoder")


class Encoder(PlainArguments, nn.Module, ABC):
    """The stage before the projection: the identity, a kernel map or a network.

    Subclasses implement `fit` and `forward`. Weights that joint training may change are `nn.Parameter`s, allocated in
    `__init__`. The arguments of `__init__` are stored as attributes of the same name. Images are flat rows, as in the
    data set; the encoder reshapes them.

    Shape:
        features (n, d) → features (n, e).

    Args:
        input_dim: feature dimension d.
        output_dim: output dimension e.
    """

    added_arguments: ClassVar[Mapping[str, Any]] = {}
    """Arguments that earlier versions did not have, with the values by which a hasher saved by them is read."""

    input_dim: int
    output_dim: int

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.output_dim = output_dim

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "fit" in cls.__dict__:
            encoder: Any = cls
            encoder.fit = check_fit_features(encoder.fit)

    @classmethod
    def fetch(cls, settings: Mapping[str, Any]) -> None:
        """Download files that `fit` needs besides the data, such as pretrained weights, before any data are read.

        Args:
            settings: settings of the constructor, without `input_dim`.

        Raises:
            InvalidInputError: a missing file that cannot be downloaded.
        """

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Encode features, (n, d) → (n, e), differentiably. Dropout acts only in training mode."""

    @abstractmethod
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Set the initial weights: random draws, and statistics of the data.

        Args:
            features: floating (n, d), the training items, on the device of the weights; not changed.
            generator: CPU generator of every random draw.

        Returns:
            self. Fitting again gives the same result.

        Raises:
            InvalidInputError: the data are invalid.
        """


def check_fit_features(fit: Callable[[E, Tensor, torch.Generator], E]) -> Callable[[E, Tensor, torch.Generator], E]:
    """Wrap an encoder's `fit` so that features of any array type become a finite tensor of its dimension."""

    @functools.wraps(fit)
    def fit_checked(encoder: E, features: Any, generator: torch.Generator) -> E:
        return fit(encoder, as_features(features, encoder.input_dim, name="training features"), generator)

    return fit_checked
