"""Ranked lists as users see them: nearest codes, with ties in random order."""

import torch
from torch import Tensor

from deephash.ranking.base import RankingEngine
from deephash.ranking.distance import Distance


def rank_lists(
    engine: RankingEngine,
    query_codes: Tensor,
    database_codes: Tensor,
    distance: Distance,
    depth: int,
    generator: torch.Generator,
) -> Tensor:
    """Return rows of the nearest codes of each query, int64 (q, depth) on the CPU.

    Engines order ties by row, so the database is shuffled first, once per call.

    Args:
        engine: ranking engine.
        query_codes: packed uint8 (q, ⌈b/8⌉).
        database_codes: packed uint8 (N, ⌈b/8⌉).
        distance: distance of the codes.
        depth: number of ranks per list.
        generator: CPU generator of the order of ties.
    """
    order = torch.randperm(len(database_codes), generator=generator)
    shuffled = database_codes[order.to(database_codes.device)]
    return order[engine.search(query_codes, shuffled, distance, depth)[1].cpu()]
