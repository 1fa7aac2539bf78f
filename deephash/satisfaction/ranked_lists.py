"""The lists that users would see: nearest codes, tied ones in random order."""

import torch
from torch import Tensor

from deephash.ranking.base import RankingEngine
from deephash.ranking.distance import Distance


def ranked_lists(
    engine: RankingEngine,
    query_codes: Tensor,
    database_codes: Tensor,
    distance: Distance,
    depth: int,
    generator: torch.Generator,
) -> Tensor:
    """Rows of the database nearest to each query, int64 (q, depth) on the CPU.

    Engines order ties by row, so the database is shuffled first: one order of it serves all queries of a call, and
    another call gets another.

    Args:
        engine: what ranks.
        query_codes: packed uint8 (q, ⌈b/8⌉).
        database_codes: packed uint8 (N, ⌈b/8⌉).
        distance: of the codes.
        depth: ranks that a user may see.
        generator: of the order, on the CPU.
    """
    order = torch.randperm(len(database_codes), generator=generator)
    shuffled = database_codes[order.to(database_codes.device)]
    return order[engine.search(query_codes, shuffled, distance, depth)[1].cpu()]
