"""A stream in which the frequent class changes smoothly."""

import math
from typing import final

import torch
from torch import Tensor

from deephash.streams.base import Stream
from deephash.validation import check_positive


@final
class ShiftingPriors(Stream):
    """Stream of all classes, whose shares rise and fall smoothly one after the other.

    The share of class c at position t of n is proportional to exp(s cos 2π(c/C - turns · t/n)).

    Args:
        length: number of items in the stream.
        strength: factor s. At s = 2, the most frequent class arrives exp(4) = 55 times as often as the rarest.
        turns: number of cycles; in one cycle, each class is the most frequent once.

    Raises:
        InvalidInputError: strength or turns are not above 0.
    """

    def __init__(self, length: int = 10_000, strength: float = 2.0, turns: float = 1.0) -> None:
        super().__init__(length)
        check_positive(strength, "stream.strength")
        check_positive(turns, "stream.turns")
        self.strength = strength
        self.turns = turns

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """Return the shares of the formula above."""
        phase = torch.arange(classes, dtype=torch.float64) / classes - self.turns * positions[:, None] / self.length
        return torch.softmax(self.strength * torch.cos(2 * math.pi * phase), 1)

    def changes(self, classes: int) -> list[int]:
        """Return no positions: the shares change gradually."""
        return []
