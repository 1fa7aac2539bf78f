"""Base class of ranking engines: exact distance counts, nearest neighbours and ranks of relevant items."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.conversion import PlainArguments, convert_numpy_numbers
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance
from deephash.ranking.inputs import check_neighbours_wanted, check_relevance, convert_codes
from deephash.ranking.relevance import Relevance

MAX_FEW = 6
"""Maximal number of queries of `RankingEngine.few_search`."""
FewSearch = Callable[[NDArray[np.uint8], NDArray[np.uint8], int, int, NDArray[np.bool_]], tuple[Tensor, Tensor]]
"""Function of queries (q, B), database (N, B), code length b, k and the allowed items, bool (N,), or (0,) for all, that
returns distances and ids, int64 (q, k)."""


class RankingEngine(PlainArguments, ABC):
    """Exact ranking of a database for each query; all engines return identical results.

    Codes are packed (`deephash.codes.pack`). To limit the memory of the results, pass the queries in blocks; no engine
    stores a queries × database matrix.
    """

    def rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        """Count all items and the relevant items at each distance from each query.

        Args:
            query_codes: packed codes uint8 (q, B), a tensor or an array.
            database_codes: packed codes uint8 (N, B), on the same device.
            distance: distance to rank by; its largest value is D.
            relevance: relevance of the N items to each of the q queries.

        Returns:
            Counts int64 (q, D + 1) on the device of the codes.

        Raises:
            InvalidInputError: codes or relevance do not fit the distance or each other.
        """
        query_codes, database_codes = convert_codes(query_codes, database_codes, distance)
        check_relevance(relevance, query_codes, database_codes)
        if not len(query_codes) or not len(database_codes):
            empty = torch.zeros(len(query_codes), distance.maximum + 1, dtype=torch.int64, device=query_codes.device)
            return DistanceCounts(empty, empty.clone())
        return self._rank(query_codes, database_codes, distance, relevance)

    @convert_numpy_numbers
    def search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        """Return the k nearest items of each query, nearest first; ties are ordered by database row.

        Args:
            query_codes: packed codes uint8 (q, B), a tensor or an array.
            database_codes: packed codes uint8 (N, B), on the same device.
            distance: distance to rank by.
            k: number of neighbours, 1 to N.

        Returns:
            distances: int64 (q, k).
            ids: int64 (q, k), database rows.

        Raises:
            InvalidInputError: the codes do not fit the distance, or k does not fit the database.
        """
        query_codes, database_codes = convert_codes(query_codes, database_codes, distance)
        check_neighbours_wanted(k, database_codes)
        if not len(query_codes):
            empty = torch.empty(0, k, dtype=torch.int64, device=query_codes.device)
            return empty, empty.clone()
        return self._search(query_codes, database_codes, distance, k)

    def relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        """Return the ranks of each query's relevant items in the stable order: by distance, ties by database row.

        Args:
            query_codes: packed codes uint8 (q, B), a tensor or an array.
            database_codes: packed codes uint8 (N, B), on the same device.
            distance: distance to rank by.
            relevance: relevance of the N items to each of the q queries.

        Returns:
            offsets: int64 (q + 1,); the ranks of query i are ranks[offsets[i] : offsets[i + 1]].
            ranks: int64, from 0, ascending within a query.

        Raises:
            InvalidInputError: codes or relevance do not fit the distance or each other.
        """
        query_codes, database_codes = convert_codes(query_codes, database_codes, distance)
        check_relevance(relevance, query_codes, database_codes)
        if not len(query_codes) or not len(database_codes):
            offsets = torch.zeros(len(query_codes) + 1, dtype=torch.int64, device=query_codes.device)
            return offsets, offsets[:0].clone()
        return self._relevant_ranks(query_codes, database_codes, distance, relevance)

    def few_search(self) -> FewSearch | None:
        """Return a search for up to MAX_FEW queries with Hamming distance, with less overhead, if there is one now."""
        return None

    @abstractmethod
    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        """Implement `rank` for checked inputs, q >= 1 and N >= 1."""

    @abstractmethod
    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        """Implement `search` for checked inputs and q >= 1."""

    def _search_among(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Implement `search` among the allowed items, bool (N,), at least k of them, for checked inputs and q >= 1."""
        rows = allowed.nonzero()[:, 0]
        distances, places = self._search(query_codes, database_codes[rows], distance, k)
        return distances, rows[places]

    @abstractmethod
    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        """Implement `relevant_ranks` for checked inputs, q >= 1 and N >= 1."""
