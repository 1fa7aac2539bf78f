"""The contract of an augmentation: features → the same items, changed at random."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Augmentation(nn.Module, ABC):
    """A random change of training items, each item by a draw of its own, from torch's default generator.

    Shape:
        features, floating (n, d) → the same shape and dtype; the input is not changed.
    """

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Changed features, (n, d) → (n, d)."""
