"""Team-draft interleaving (Radlinski, Kurup & Joachims, CIKM 2008)."""

import torch
from torch import Tensor

from deephash.validation import InvalidInputError


def team_draft(first: Tensor, second: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One list from two: in turns, who begins drawn by coin, each ranking adds its best item that is not yet there.

    Args:
        first: int64 (n, K), ids of n lists of one ranking, distinct in a list.
        second: int64 (n, K), of the other, for the same queries.
        generator: of the coins.

    Returns:
        Ids int64 (n, K), and whose each is, int64 (n, K): 0 the first's, 1 the second's.

    Raises:
        InvalidInputError: lists of other shapes.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise InvalidInputError(f"lists are {tuple(first.shape)} and {tuple(second.shape)}; expected (n, K) twice.")
    lists = torch.stack([first, second])
    used = torch.zeros_like(lists, dtype=torch.bool)
    ids, teams = torch.empty_like(first), torch.empty_like(first)
    rows, sizes = torch.arange(len(first)), torch.zeros(2, len(first), dtype=torch.int64)
    for rank in range(first.shape[1]):
        coin = torch.randint(0, 2, (len(first),), generator=generator)
        team = torch.where(sizes[0] == sizes[1], coin, (sizes[1] < sizes[0]).long())
        # The first place that is not used; K items of one list can't all be used before the last rank is filled.
        place = (~used[team, rows]).int().argmax(1)
        item = lists[team, rows, place]
        used |= lists == item[None, :, None]
        ids[:, rank], teams[:, rank] = item, team
        sizes[team, rows] += 1
    return ids, teams


def credit(clicks: Tensor, teams: Tensor) -> Tensor:
    """Which ranking won each session, by clicks on its items: 1 the first, -1 the second, 0 neither; int64 (n,)."""
    first = (clicks & (teams == 0)).sum(1)
    second = (clicks & (teams == 1)).sum(1)
    return (first - second).sign()
