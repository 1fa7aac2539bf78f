"""A stream that never changes: items in random order."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.streams.base import Stream


@final
class Stationary(Stream):
    """Stream with equal shares of all classes throughout.

    Args:
        length: number of items in the stream.
    """

    by_class: ClassVar[bool] = False

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """Return equal shares of all classes."""
        return torch.full((len(positions), classes), 1 / classes, dtype=torch.float64)

    def changes(self, classes: int) -> list[int]:
        """Return no positions."""
        return []
