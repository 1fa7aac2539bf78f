"""The dynamic Bayesian network model (Chapelle & Zhang, WWW 2009)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments
from deephash.satisfaction.sessions import Sessions, draw_uniform, find_first_rank, get_chances


@convert_numpy_arguments
@dataclass(frozen=True)
class DynamicBayesian:
    """A user reads from the top, clicks attractive items, and leaves when satisfied or tired.

    Args:
        attraction: a_u, chance of a click on an item that is read, by grade from 0.
        satisfaction: s_u, chance that a clicked item satisfies, by grade from 0.
        perseverance: γ, chance that an unsatisfied user reads the next item; at .9, such a user reads ten on average.

    Raises:
        InvalidInputError: a chance is outside 0 to 1.
    """

    attraction: tuple[float, ...] = (0.05, 0.95)
    satisfaction: tuple[float, ...] = (0.0, 0.7)
    perseverance: float = 0.9

    def __post_init__(self) -> None:
        for chances in (self.attraction, self.satisfaction, (self.perseverance,)):
            get_chances(chances, torch.zeros(1, dtype=torch.int64))

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session per list of grades, int64 (n, K)."""
        attracted = draw_uniform(grades.shape, generator) < get_chances(self.attraction, grades)
        contented = attracted & (draw_uniform(grades.shape, generator) < get_chances(self.satisfaction, grades))
        tired = draw_uniform(grades.shape, generator) >= self.perseverance
        stop = find_first_rank(contented | tired)
        ranks = torch.arange(1, grades.shape[1] + 1)
        satisfied = (contented & (ranks == stop[:, None])).any(1)
        return Sessions(attracted & (ranks <= stop[:, None]), stop.clamp_max(grades.shape[1]), satisfied)
