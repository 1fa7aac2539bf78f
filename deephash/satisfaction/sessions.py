"""What a user model makes of ranked lists."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class Sessions:
    """What n simulated users did, each with one list of K ranks.

    Args:
        clicks: bool (n, K).
        examined: int64 (n,), ranks that the user looked at, 1 to K.
        satisfied: bool (n,), whether the user left content; the others abandoned the list.
    """

    clicks: Tensor
    examined: Tensor
    satisfied: Tensor


class UserModel(Protocol):
    """A click model: how a user reads a list, what is clicked, and when the user leaves, content or not."""

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session a list.

        Args:
            grades: int64 (n, K), grade of relevance of the item at each rank.
            generator: of every random draw.
        """
        ...


def by_grade(chances: tuple[float, ...], grades: Tensor) -> Tensor:
    """The chance that belongs to each grade, float64 of the grades' shape; the last one serves all higher grades.

    Raises:
        InvalidInputError: no chances, or one outside 0 to 1.
    """
    if not chances or any(not 0 <= chance <= 1 for chance in chances):
        raise InvalidInputError(f"chances={tuple(chances)}; expected one from 0 to 1 for each grade from 0 on.")
    table = torch.tensor(tuple(chances), dtype=torch.float64)
    return table[grades.clamp_max(len(table) - 1)]


def draws(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform random numbers, float64."""
    return torch.rand(shape, dtype=torch.float64, generator=generator)


def first_rank(events: Tensor) -> Tensor:
    """The rank from 1 of each row's first True in bool (n, K); K + 1 where there is none."""
    ranks = torch.arange(1, events.shape[1] + 1).expand_as(events)
    return torch.where(events, ranks, events.shape[1] + 1).amin(1)
