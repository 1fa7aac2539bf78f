"""A scan of all codes by the ranking engine: exact, without preparation or memory besides the codes."""

from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index
from deephash.indexes.neighbour_lists import WithinRadius
from deephash.ranking.allowed_rows import is_copied
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.base import MAX_FEW, FewSearch, RankingEngine
from deephash.ranking.relevance import SharedLabel

# Queries of a radius search that one search for nearest codes answers.
RADIUS_QUERIES = 16
ALL = np.empty(0, bool)


@final
class Flat(Index):
    """Scan that compares every query with every code.

    The cost grows with the database, but a comparison takes one or two instructions. Below a few million codes, no
    exact method is faster for queries that are far from the database.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        engine: ranking engine; None uses the fastest for the device of the codes.
    """

    takes_changes = True
    max_removed = 0.03  # Rows are dropped in a few milliseconds per million.
    # All engines give the same results, so the choice is not saved.
    not_settings: ClassVar[frozenset[str]] = Index.not_settings | {"engine"}

    def __init__(self, codes: Tensor, bits: int, engine: RankingEngine | None = None) -> None:
        super().__init__(codes, bits)
        self.engine = AutoEngine() if engine is None else engine
        self.few: FewSearch | None = None

    def _extend(self, first: int) -> None:
        """A scan needs nothing besides the codes."""

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        few = self._find_few(queries.shape[0])
        if few is not None:
            return few(queries.numpy(), self.items.codes, self.bits, k, ALL)
        # The codes were checked when they were added, and the queries by `search`.
        return self.engine._search(queries, self.codes, self.distance, k)

    def _search_among(
        self, queries: Tensor, k: int, allowed: NDArray[np.bool_], count: int, *, is_filter: bool
    ) -> tuple[Tensor, Tensor]:
        few = self._find_few(queries.shape[0])
        if few is not None and not is_copied(queries.shape[0], count, len(allowed)):
            return few(queries.numpy(), self.items.codes, self.bits, k, allowed)
        return self.engine._search_among(queries, self.codes, self.distance, k, torch.from_numpy(allowed))

    def _find_few(self, queries: int) -> FewSearch | None:
        """Return the engine's search for a few queries, if there are few and it has one now."""
        if queries > MAX_FEW:
            return None
        self.few = self.few or self.engine.few_search()
        return self.few

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        # Count first. Then search each block of queries for as many neighbours as the largest count in the block.
        nobody = SharedLabel(
            torch.zeros(len(queries), dtype=torch.int64), torch.ones(self.items.rows, dtype=torch.int64)
        )
        counts = self.engine.rank(queries, self.codes, self.distance, nobody).total[:, : radius + 1].sum(1)
        empty = torch.empty(0, dtype=torch.int64)
        distances, ids = [empty], [empty]
        for start in range(0, len(queries), RADIUS_QUERIES):
            block_counts = counts[start : start + RADIUS_QUERIES]
            largest = int(block_counts.max())
            if largest:
                near, found = self._search(queries[start : start + RADIUS_QUERIES], largest)
                kept = torch.arange(largest) < block_counts[:, None]
                distances.append(near[kept])
                ids.append(found[kept])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return WithinRadius(offsets, torch.cat(distances), torch.cat(ids))
