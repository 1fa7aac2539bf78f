"""A stream in which new classes join the earlier ones."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.base import Stream
from deephash.validation import InvalidInputError, check_count


@final
class NewClasses(Stream):
    """Stream in phases of equal length, each of which adds classes to the earlier ones.

    Args:
        length: number of items in the stream.
        first: number of classes at the start.
        step: number of classes that each later phase adds.

    Raises:
        InvalidInputError: a number of classes is below 1, or the first phase has more classes than the data.
    """

    def __init__(self, length: int = 10_000, first: int = 2, step: int = 2) -> None:
        super().__init__(length)
        check_count(first, "stream.first")
        check_count(step, "stream.step")
        self.first = first
        self.step = step

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """Return equal shares of the classes that have appeared."""
        known = self.first + self.step * (positions * self._count_phases(classes) // self.length)
        appeared = (torch.arange(classes) < known[:, None]).double()
        return appeared / appeared.sum(1, keepdim=True)

    def changes(self, classes: int) -> list[int]:
        """Return the positions at which classes are added."""
        phases = self._count_phases(classes)
        return [-(-phase * self.length // phases) for phase in range(1, phases)]

    def _count_phases(self, classes: int) -> int:
        if self.first > classes:
            raise InvalidInputError(f"stream.first={self.first} exceeds the {classes} classes of the data; lower it.")
        return 1 + -(-(classes - self.first) // self.step)
