"""A stream in which new classes appear, and those before them go on."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.base import Stream
from deephash.validation import InvalidInputError, check_count


@final
class NewClasses(Stream):
    """A few classes first, then some more at a time, in phases of equal length; those that have appeared stay.

    Args:
        length: items of the stream.
        first: classes at the start.
        step: classes that each later phase adds.

    Raises:
        InvalidInputError: a number of classes below 1; more at the start than there are.
    """

    def __init__(self, length: int = 10_000, first: int = 2, step: int = 2) -> None:
        super().__init__(length)
        check_count(first, "stream.first")
        check_count(step, "stream.step")
        self.first = first
        self.step = step

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """The same of every class that has appeared."""
        known = self.first + self.step * (positions * self._phases(classes) // self.length)
        appeared = (torch.arange(classes) < known[:, None]).double()
        return appeared / appeared.sum(1, keepdim=True)

    def changes(self, classes: int) -> list[int]:
        """Where new classes begin."""
        phases = self._phases(classes)
        return [-(-phase * self.length // phases) for phase in range(1, phases)]

    def _phases(self, classes: int) -> int:
        if self.first > classes:
            raise InvalidInputError(f"stream.first={self.first} exceeds the {classes} classes of the data; lower it.")
        return 1 + -(-(classes - self.first) // self.step)
