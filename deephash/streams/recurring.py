"""A stream with recurring concepts."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.base import Stream
from deephash.validation import InvalidInputError, check_count


@final
class Recurring(Stream):
    """Stream of concepts, each a group of classes, that alternate in phases of equal length.

    Class c belongs to concept c mod `concepts`.

    Args:
        length: number of items in the stream.
        concepts: number of concepts.
        phases: number of phases.

    Raises:
        InvalidInputError: a number is below 1, or there are more concepts than classes.
    """

    def __init__(self, length: int = 10_000, concepts: int = 2, phases: int = 6) -> None:
        super().__init__(length)
        check_count(concepts, "stream.concepts")
        check_count(phases, "stream.phases")
        self.concepts = concepts
        self.phases = phases

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """Return equal shares of the classes of the current concept."""
        if self.concepts > classes:
            raise InvalidInputError(
                f"stream.concepts={self.concepts} exceeds the {classes} classes of the data; lower it."
            )
        concept = positions * self.phases // self.length % self.concepts
        active = (torch.arange(classes) % self.concepts == concept[:, None]).double()
        return active / active.sum(1, keepdim=True)

    def changes(self, classes: int) -> list[int]:
        """Return the positions at which the concept changes."""
        if self.concepts == 1:
            return []
        return [-(-phase * self.length // self.phases) for phase in range(1, self.phases)]
