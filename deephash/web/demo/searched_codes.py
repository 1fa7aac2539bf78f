"""The codes of a database that a demo searches."""

from typing import final

import torch
from torch import Tensor

import deephash
from deephash.code_files.index_codes import HasherInfo
from deephash.indexes.base import Index
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import Neighbours, Relevance


@final
class SearchedCodes:
    """Codes of one view of a database, indexed if they are ranked by Hamming distance.

    Codes of other distances, such as the Manhattan distance of several bits per projection, are scanned.

    Args:
        codes: packed uint8 (m, ⌈b/8⌉), on the CPU.
        positions: int64 (m,), places of their items in the database.
        hasher: description of the hasher of the codes.
    """

    def __init__(self, codes: Tensor, positions: Tensor, hasher: HasherInfo) -> None:
        self.codes = codes
        self.positions = positions
        self.distance = hasher.distance
        self.index: Index | None = None
        if isinstance(hasher.distance, Hamming):
            self.index = deephash.index(codes, kind="auto", hasher=hasher)

    def __len__(self) -> int:
        return len(self.codes)

    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the k nearest codes of a query, or all if there are fewer. Ties are in database order.

        Args:
            query: packed uint8 (1, ⌈b/8⌉).
            k: number of neighbours.

        Returns:
            Distances and rows of `codes`, int64 (k,), nearest first.
        """
        k = min(k, len(self))
        if self.index is not None:
            distances, rows = self.index.search(query, k)
        else:
            distances, rows = AutoEngine().search(query, self.codes, self.distance, k)
        return distances[0], rows[0]

    def count(self, query: Tensor, relevance: Relevance | None) -> DistanceCounts:
        """Count the items, and the relevant ones, at each distance from a query.

        Args:
            query: packed uint8 (1, ⌈b/8⌉).
            relevance: relevance of the items to the query; None if it is unknown, which counts no item as relevant.
        """
        if relevance is None:
            relevance = Neighbours(torch.zeros(2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), len(self))
        return AutoEngine().rank(query, self.codes, self.distance, relevance)
