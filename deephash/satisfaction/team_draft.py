"""Team-draft interleaving (Radlinski, Kurup & Joachims, CIKM 2008)."""

import torch
from torch import Tensor

from deephash.validation import InvalidInputError


def team_draft(first: Tensor, second: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Interleave two rankings: in random turns, each adds its best item that is not in the list yet.

    Args:
        first: int64 (n, K), ids of n lists of one ranking, distinct in each list.
        second: int64 (n, K), of the other ranking for the same queries.
        generator: generator of the turns.

    Returns:
        Ids int64 (n, K), and the ranking of each, int64 (n, K): 0 for the first, 1 for the second.

    Raises:
        InvalidInputError: the lists have different shapes.
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
        # The first unused place; a list of K items has one until the last rank is filled.
        place = (~used[team, rows]).int().argmax(1)
        item = lists[team, rows, place]
        used |= lists == item[None, :, None]
        ids[:, rank], teams[:, rank] = item, team
        sizes[team, rows] += 1
    return ids, teams


def credit_clicks(clicks: Tensor, teams: Tensor) -> Tensor:
    """Return the ranking with more clicks in each session: 1 the first, -1 the second, 0 neither; int64 (n,)."""
    first = (clicks & (teams == 0)).sum(1)
    second = (clicks & (teams == 1)).sum(1)
    return (first - second).sign()
