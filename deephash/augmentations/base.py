"""The base class of augmentations: features → the same items, changed at random."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.validation import check_count


class Augmentation(PlainArguments, nn.Module, ABC):
    """A random change of training items, drawn independently for each item from torch's default generator.

    Subclasses implement `change`, and `change_second` if the two views of an item that some losses compare differ in
    kind. In evaluation mode, items are returned unchanged.

    Shape:
        features, floating (n, d) → the same shape and dtype; the input is not changed.

    Args:
        input_dim: feature dimension d.

    Attributes:
        needs_images: whether features must be pixels. A frozen network is then applied to changed images in each step;
            otherwise its features are computed once and changed.
    """

    needs_images: ClassVar[bool] = False

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        check_count(input_dim, "input_dim")
        self.input_dim = input_dim

    @abstractmethod
    def change(self, features: Tensor) -> Tensor:
        """Return changed features, (n, d) → (n, d), for any n >= 0, with independent draws for each item."""

    def change_second(self, features: Tensor) -> Tensor:
        """Return the second view of items, (n, d) → (n, d); by default another draw of `change`."""
        return self.change(features)

    def forward(self, features: Tensor) -> Tensor:
        """Return changed features in training mode, (n, d) → (n, d)."""
        return self.change(features) if self.training else features

    def second(self, features: Tensor) -> Tensor:
        """Return the second view of items in training mode, (n, d) → (n, d)."""
        return self.change_second(features) if self.training else features
