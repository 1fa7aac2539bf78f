"""The contract of a ranking engine: exact distance counts, nearest neighbours and ranks of relevant items."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from deephash.codes import as_codes
from deephash.conversion import PlainArguments, as_tensor, plain_numbers
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance
from deephash.ranking.inputs import (
    check_exclude,
    check_neighbours_wanted,
    check_ranked,
    check_relevance,
)
from deephash.ranking.linear_form import pair_distances
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel
from deephash.validation import numbers


def relevant_pairs(relevance: Relevance, queries: Tensor, items: Tensor) -> Tensor:
    """Whether items[i] is relevant to queries[i]: bool, of the same length.

    Args:
        relevance: of all queries and items.
        queries: int64 (p,), rows of queries.
        items: int64 (p,), rows of the database.
    """
    if isinstance(relevance, SharedLabel):
        return relevance.query[queries] == relevance.database[items]
    if not isinstance(relevance, Neighbours):
        return (relevance.query[queries] & relevance.database[items]).any(1)
    # Listed pairs rise when numbered query by query, so one binary search finds them all.
    pairs = neighbour_queries(relevance) * relevance.database_size + relevance.ids
    return torch.isin(queries * relevance.database_size + items, pairs)


def neighbour_queries(relevance: Neighbours) -> Tensor:
    """The query of each neighbour id: int64, as long as the ids."""
    lengths = relevance.offsets.diff()
    return torch.repeat_interleave(lengths, output_size=len(relevance.ids))


def exclude_items(
    counts: DistanceCounts,
    query_codes: Tensor,
    database_codes: Tensor,
    distance: Distance,
    relevance: Relevance,
    exclude: Tensor,
) -> DistanceCounts:
    """Counts without one database item a query; arguments as those of `RankingEngine.rank`."""
    excluded = exclude >= 0
    rows = torch.nonzero(excluded).flatten()
    # Queries that exclude nothing are paired with item 0 and left out below, so that weights need no selection.
    distances = pair_distances(query_codes, database_codes[exclude.clamp_min(0)], distance)[rows]
    total, relevant = counts.total.clone(), counts.relevant.clone()
    total[rows, distances] -= 1
    relevant[rows, distances] -= relevant_pairs(relevance, rows, exclude[rows]).to(torch.int64)
    return DistanceCounts(total, relevant)


class RankingEngine(PlainArguments, ABC):
    """Ranks a database for each query, exactly; all engines give equal results, bit for bit.

    Codes are packed (`deephash.codes.pack`); a query block of any size keeps the results of one call as small as
    wanted, and no engine ever holds a queries × database matrix.
    """

    def rank(
        self,
        query_codes: Tensor,
        database_codes: Tensor,
        distance: Distance,
        relevance: Relevance,
        exclude: Tensor | None = None,
    ) -> DistanceCounts:
        """Histograms of all and of the relevant items over the distances from each query.

        Args:
            query_codes: packed codes uint8 (q, B), a tensor or an array.
            database_codes: packed codes uint8 (N, B), on the same device.
            distance: what ranks them; its largest distance is D.
            relevance: which of the N items are relevant to each of the q queries.
            exclude: int64 (q,), each query's own database row, which is left out of its counts, or -1; None where no
                query is an item of the database.

        Returns:
            Counts int64 (q, D + 1) on the codes' device.

        Raises:
            InvalidInputError: where codes, relevance or exclude do not fit the distance or each other.
        """
        query_codes, database_codes = as_codes(query_codes, "query codes"), as_codes(database_codes, "database codes")
        check_ranked(query_codes, database_codes, distance)
        check_relevance(relevance, query_codes, database_codes)
        if exclude is not None:
            exclude = as_tensor(numbers(exclude, "exclude"))
            check_exclude(exclude, query_codes, database_codes)
        if not len(query_codes) or not len(database_codes):
            empty = torch.zeros(len(query_codes), distance.maximum + 1, dtype=torch.int64, device=query_codes.device)
            return DistanceCounts(empty, empty.clone())
        counts = self._rank(query_codes, database_codes, distance, relevance)
        if exclude is None:
            return counts
        return exclude_items(counts, query_codes, database_codes, distance, relevance, exclude)

    @plain_numbers
    def search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest items of each query, nearest first, items at the same distance by their database row.

        Args:
            query_codes: packed codes uint8 (q, B), a tensor or an array.
            database_codes: packed codes uint8 (N, B), on the same device.
            distance: what ranks them.
            k: number of neighbours, 1 to N.

        Returns:
            distances: int64 (q, k).
            ids: int64 (q, k), database rows.

        Raises:
            InvalidInputError: where the codes do not fit the distance, or k the database.
        """
        query_codes, database_codes = as_codes(query_codes, "query codes"), as_codes(database_codes, "database codes")
        check_ranked(query_codes, database_codes, distance)
        check_neighbours_wanted(k, database_codes)
        if not len(query_codes):
            empty = torch.empty(0, k, dtype=torch.int64, device=query_codes.device)
            return empty, empty.clone()
        return self._search(query_codes, database_codes, distance, k)

    def relevant_ranks(
        self,
        query_codes: Tensor,
        database_codes: Tensor,
        distance: Distance,
        relevance: Relevance,
        exclude: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Ranks of each query's relevant items in the stable order: by distance, ties by database row.

        Args:
            query_codes: packed codes uint8 (q, B), a tensor or an array.
            database_codes: packed codes uint8 (N, B), on the same device.
            distance: what ranks them.
            relevance: which of the N items are relevant to each of the q queries.
            exclude: int64 (q,), as for `rank`: the item leaves the ranking, and the items behind it move up.

        Returns:
            offsets: int64 (q + 1,); the ranks of query i are ranks[offsets[i] : offsets[i + 1]].
            ranks: int64, from 0, ascending within a query.

        Raises:
            InvalidInputError: where codes, relevance or exclude do not fit the distance or each other.
        """
        query_codes, database_codes = as_codes(query_codes, "query codes"), as_codes(database_codes, "database codes")
        check_ranked(query_codes, database_codes, distance)
        check_relevance(relevance, query_codes, database_codes)
        if exclude is not None:
            exclude = as_tensor(numbers(exclude, "exclude"))
            check_exclude(exclude, query_codes, database_codes)
        if not len(query_codes) or not len(database_codes):
            offsets = torch.zeros(len(query_codes) + 1, dtype=torch.int64, device=query_codes.device)
            return offsets, offsets[:0].clone()
        offsets, ranks = self._relevant_ranks(query_codes, database_codes, distance, relevance)
        if exclude is None:
            return offsets, ranks
        excluded = exclude >= 0
        listed = torch.cat([excluded.new_zeros(1, dtype=torch.int64), excluded.cumsum(0)])
        own = Neighbours(listed, exclude[excluded], len(database_codes))
        own_ranks = torch.full_like(exclude, len(database_codes))
        own_ranks[excluded] = self._relevant_ranks(query_codes, database_codes, distance, own)[1]
        queries = neighbour_queries(Neighbours(offsets, ranks, len(database_codes)))
        # A rank names one item, so a relevant item of the excluded rank is the excluded one.
        kept = ranks != own_ranks[queries]
        ranks = (ranks - (ranks > own_ranks[queries]).to(torch.int64))[kept]
        lengths = torch.bincount(queries[kept], minlength=len(query_codes))
        return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), ranks

    @abstractmethod
    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        """`rank` for checked inputs, q >= 1 and N >= 1, excluding nothing."""

    @abstractmethod
    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        """`search` for checked inputs and q >= 1."""

    @abstractmethod
    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        """`relevant_ranks` for checked inputs, q >= 1 and N >= 1, excluding nothing."""
