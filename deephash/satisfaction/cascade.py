"""The cascade model (Craswell, Zoeter, Taylor & Ramsey, WSDM 2008)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments
from deephash.satisfaction.sessions import Sessions, draw_uniform, find_first_rank, get_chances


@convert_numpy_arguments
@dataclass(frozen=True)
class Cascade:
    """A user reads from the top, clicks the first attractive item and leaves, satisfied if it is relevant.

    Args:
        attraction: chance of a click on an item that is read, by grade from 0.

    Raises:
        InvalidInputError: a chance is outside 0 to 1.
    """

    attraction: tuple[float, ...] = (0.05, 0.95)

    def __post_init__(self) -> None:
        get_chances(self.attraction, torch.zeros(1, dtype=torch.int64))

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session per list of grades, int64 (n, K)."""
        attracted = draw_uniform(grades.shape, generator) < get_chances(self.attraction, grades)
        stop = find_first_rank(attracted)
        clicks = torch.arange(1, grades.shape[1] + 1) == stop[:, None]
        return Sessions(clicks, stop.clamp_max(grades.shape[1]), (clicks & (grades > 0)).any(1))
