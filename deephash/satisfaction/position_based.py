"""The position-based model (Richardson, Dominowska & Ragno, WWW 2007; compared by Craswell et al., WSDM 2008)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments
from deephash.satisfaction.sessions import Sessions, draw_uniform, get_chances
from deephash.validation import InvalidInputError


@convert_numpy_arguments
@dataclass(frozen=True)
class PositionBased:
    """A user examines rank i with chance 1/i^η, independently of other ranks, and clicks attractive items.

    The user is satisfied after a click on a relevant item.

    Args:
        attraction: chance of a click on an examined item, by grade from 0; a few clicks are mistakes.
        decay: η, at least 0. At 1, rank 2 is examined half as often as rank 1, roughly as eye tracking finds.

    Raises:
        InvalidInputError: a chance is outside 0 to 1, or the decay is below 0.
    """

    attraction: tuple[float, ...] = (0.05, 0.95)
    decay: float = 1.0

    def __post_init__(self) -> None:
        get_chances(self.attraction, torch.zeros(1, dtype=torch.int64))
        if self.decay < 0:
            raise InvalidInputError(f"decay={self.decay}; expected at least 0.")

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session per list of grades, int64 (n, K)."""
        ranks = torch.arange(1, grades.shape[1] + 1, dtype=torch.float64)
        looked = draw_uniform(grades.shape, generator) < ranks**-self.decay
        clicks = looked & (draw_uniform(grades.shape, generator) < get_chances(self.attraction, grades))
        examined = (looked * ranks.long()).amax(1).clamp_min(1)
        return Sessions(clicks, examined, (clicks & (grades > 0)).any(1))
