"""The codes of a database that queries are compared with."""

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
    """Codes of one view of a database, in an index where they are ranked by Hamming distance.

    Other distances, as the Manhattan distance of several bits a projection, have no index, and are scanned.

    Args:
        codes: packed uint8 (m, ⌈b/8⌉), on the CPU.
        positions: int64 (m,), places in the database of the items that they are of.
        maker: the hasher that made them.
    """

    def __init__(self, codes: Tensor, positions: Tensor, maker: HasherInfo) -> None:
        self.codes = codes
        self.positions = positions
        self.distance = maker.distance
        self.index: Index | None = None
        if isinstance(maker.distance, Hamming):
            self.index = deephash.index(codes, kind="auto", hasher=maker)

    def __len__(self) -> int:
        return len(self.codes)

    def nearest(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest of one query, or all where there are fewer; among equals the first of the database.

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

    def counts(self, query: Tensor, relevance: Relevance | None) -> DistanceCounts:
        """How many items, and how many relevant ones, lie at each distance from one query.

        Args:
            query: packed uint8 (1, ⌈b/8⌉).
            relevance: of the query and these codes' items; None where it is unknown, which counts none as relevant.
        """
        if relevance is None:
            relevance = Neighbours(torch.zeros(2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), len(self))
        return AutoEngine().rank(query, self.codes, self.distance, relevance)
