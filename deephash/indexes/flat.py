"""A scan of all codes by the ranking engine: exact, no preparation, no memory beside the codes."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.indexes.base import Index, WithinRadius
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.base import RankingEngine
from deephash.ranking.relevance import SharedLabel

# Queries of a radius search that share one search for their nearest.
RADIUS_QUERIES = 16


@final
class Flat(Index):
    """Compares every query with every code.

    Its cost grows with the database, but each comparison is one instruction or two: below some million codes nothing
    exact is faster for far queries.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        engine: what scans; None for the fastest of the codes' device.
    """

    # All engines find the same, so which one scans is no matter of what is saved.
    not_settings: ClassVar[frozenset[str]] = Index.not_settings | {"engine"}

    def __init__(self, codes: Tensor, bits: int, engine: RankingEngine | None = None) -> None:
        super().__init__(codes, bits)
        self.engine = AutoEngine() if engine is None else engine

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self.engine.search(queries, self.codes, self.distance, k)

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        # How many there are comes first; then each block of queries asks for as many as the fullest of them has.
        nobody = SharedLabel(torch.zeros(len(queries), dtype=torch.int64), torch.ones(self.size, dtype=torch.int64))
        counts = self.engine.rank(queries, self.codes, self.distance, nobody).total[:, : radius + 1].sum(1)
        distances, ids = [], []
        for start in range(0, len(queries), RADIUS_QUERIES):
            wanted = counts[start : start + RADIUS_QUERIES]
            most = int(wanted.max())
            if most:
                near, found = self._search(queries[start : start + RADIUS_QUERIES], most)
                kept = torch.arange(most) < wanted[:, None]
                distances.append(near[kept])
                ids.append(found[kept])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        nothing = [torch.empty(0, dtype=torch.int64)]
        return WithinRadius(offsets, torch.cat(distances or nothing), torch.cat(ids or nothing))
