"""The dynamic Bayesian network model (Chapelle & Zhang, WWW 2009)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.conversion import plain_arguments
from deephash.satisfaction.sessions import Sessions, by_grade, draws, first_rank


@plain_arguments
@dataclass(frozen=True)
class DynamicBayesian:
    """A user reads from the top, clicks what attracts, and is then satisfied or not; one who isn't may give up.

    Args:
        attraction: a_u, chance of a click on an item that is read, by grade from 0.
        satisfaction: s_u, chance that a clicked item satisfies, by grade from 0.
        perseverance: γ, chance that a user who is not satisfied reads the next item; .9 reads ten on average.

    Raises:
        InvalidInputError: a chance outside 0 to 1.
    """

    attraction: tuple[float, ...] = (0.05, 0.95)
    satisfaction: tuple[float, ...] = (0.0, 0.7)
    perseverance: float = 0.9

    def __post_init__(self) -> None:
        for chances in (self.attraction, self.satisfaction, (self.perseverance,)):
            by_grade(chances, torch.zeros(1, dtype=torch.int64))

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session a list, int64 (n, K)."""
        attracted = draws(grades.shape, generator) < by_grade(self.attraction, grades)
        content = attracted & (draws(grades.shape, generator) < by_grade(self.satisfaction, grades))
        tired = draws(grades.shape, generator) >= self.perseverance
        stop = first_rank(content | tired)
        ranks = torch.arange(1, grades.shape[1] + 1)
        satisfied = (content & (ranks == stop[:, None])).any(1)
        return Sessions(attracted & (ranks <= stop[:, None]), stop.clamp_max(grades.shape[1]), satisfied)
