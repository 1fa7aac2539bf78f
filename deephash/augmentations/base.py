"""The base class of augmentations: features → the same items, changed at random."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.validation import check_count


class Augmentation(PlainArguments, nn.Module, ABC):
    """A random change of training items, drawn independently for each item from torch's default generator.

    Subclasses implement `change`. In evaluation mode, items are returned unchanged.

    Shape:
        features, floating (n, d) → the same shape and dtype; the input is not changed.

    Args:
        input_dim: feature dimension d.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        check_count(input_dim, "input_dim")
        self.input_dim = input_dim

    @abstractmethod
    def change(self, features: Tensor) -> Tensor:
        """Return changed features, (n, d) → (n, d), for any n >= 0, with independent draws for each item."""

    def forward(self, features: Tensor) -> Tensor:
        """Return changed features in training mode, (n, d) → (n, d)."""
        return self.change(features) if self.training else features
