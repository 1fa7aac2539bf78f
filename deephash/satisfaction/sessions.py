"""Sessions of simulated users with ranked lists."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class Sessions:
    """Sessions of n simulated users, each with one list of K ranks.

    Args:
        clicks: bool (n, K).
        examined: int64 (n,), number of ranks that the user examined, 1 to K.
        satisfied: bool (n,), whether the user was satisfied; the others abandoned the list.
    """

    clicks: Tensor
    examined: Tensor
    satisfied: Tensor


class UserModel(Protocol):
    """A click model: how a user reads a list, clicks items and leaves, satisfied or not."""

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session per list.

        Args:
            grades: int64 (n, K), grade of relevance of the item at each rank.
            generator: generator of all random draws.
        """
        ...


def get_chances(chances: tuple[float, ...], grades: Tensor) -> Tensor:
    """Return the chance of each grade, float64 of the shape of grades. The last chance applies to all higher grades.

    Raises:
        InvalidInputError: there are no chances, or one is outside 0 to 1.
    """
    if not chances or any(not 0 <= chance <= 1 for chance in chances):
        raise InvalidInputError(f"chances={tuple(chances)}; expected one from 0 to 1 for each grade from 0.")
    table = torch.tensor(tuple(chances), dtype=torch.float64)
    return table[grades.clamp_max(len(table) - 1)]


def draw_uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw uniform random numbers, float64."""
    return torch.rand(shape, dtype=torch.float64, generator=generator)


def find_first_rank(events: Tensor) -> Tensor:
    """Return the rank from 1 of the first True in each row of bool (n, K); K + 1 if there is none."""
    ranks = torch.arange(1, events.shape[1] + 1).expand_as(events)
    return torch.where(events, ranks, events.shape[1] + 1).amin(1)
