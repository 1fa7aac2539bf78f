"""A stream whose concepts come back."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.base import Stream
from deephash.validation import InvalidInputError, check_count


@final
class Recurring(Stream):
    """Concepts, each of some classes, that take turns in phases of equal length and come back after all have been.

    Class c belongs to concept c mod `concepts`.

    Args:
        length: items of the stream.
        concepts: number of concepts.
        phases: number of phases.

    Raises:
        InvalidInputError: a number below 1, or more concepts than classes.
    """

    def __init__(self, length: int = 10_000, concepts: int = 2, phases: int = 6) -> None:
        super().__init__(length)
        check_count(concepts, "stream.concepts")
        check_count(phases, "stream.phases")
        self.concepts = concepts
        self.phases = phases

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """The same of every class of the present concept."""
        if self.concepts > classes:
            raise InvalidInputError(
                f"stream.concepts={self.concepts} exceeds the {classes} classes of the data; lower it."
            )
        concept = positions * self.phases // self.length % self.concepts
        present = (torch.arange(classes) % self.concepts == concept[:, None]).double()
        return present / present.sum(1, keepdim=True)

    def changes(self, classes: int) -> list[int]:
        """Where concepts follow one another."""
        if self.concepts == 1:
            return []
        return [-(-phase * self.length // self.phases) for phase in range(1, self.phases)]
