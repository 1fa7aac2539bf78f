"""The stream that never changes: items in random order."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.streams.base import Stream


@final
class Stationary(Stream):
    """All classes alike from the first item to the last.

    Args:
        length: items of the stream.
    """

    by_class: ClassVar[bool] = False

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """The same of every class."""
        return torch.full((len(positions), classes), 1 / classes, dtype=torch.float64)

    def changes(self, classes: int) -> list[int]:
        """None."""
        return []
