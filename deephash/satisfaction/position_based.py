"""The position-based model (Richardson, Dominowska & Ragno, WWW 2007; compared by Craswell et al., WSDM 2008)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.conversion import plain_arguments
from deephash.satisfaction.sessions import Sessions, by_grade, draws
from deephash.validation import InvalidInputError


@plain_arguments
@dataclass(frozen=True)
class PositionBased:
    """Each rank is looked at with a chance of its own, 1/i^η, whatever was seen above; what attracts is clicked.

    The user is satisfied where something relevant was clicked.

    Args:
        attraction: chance of a click on an item that is looked at, by grade from 0; a few clicks are mistakes.
        decay: η, at least 0. 1 halves the looks from rank 1 to 2, as eye tracking of result pages finds roughly.

    Raises:
        InvalidInputError: a chance outside 0 to 1, or a decay below 0.
    """

    attraction: tuple[float, ...] = (0.05, 0.95)
    decay: float = 1.0

    def __post_init__(self) -> None:
        by_grade(self.attraction, torch.zeros(1, dtype=torch.int64))
        if self.decay < 0:
            raise InvalidInputError(f"decay={self.decay}; expected at least 0.")

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session a list, int64 (n, K)."""
        ranks = torch.arange(1, grades.shape[1] + 1, dtype=torch.float64)
        looks = draws(grades.shape, generator) < ranks**-self.decay
        clicks = looks & (draws(grades.shape, generator) < by_grade(self.attraction, grades))
        examined = (looks * ranks.long()).amax(1).clamp_min(1)
        return Sessions(clicks, examined, (clicks & (grades > 0)).any(1))
