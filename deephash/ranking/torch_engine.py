"""Ranking with plain torch on any device."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance
from deephash.ranking.linear_form import form_bits, form_dtype, form_queries, form_width
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel, neighbour_queries
from deephash.validation import check_whole

# Maximum memory in bytes of a query-item pair of a block, as int64 and floating: its distance, its key or cell, and the
# copies that a sort makes.
PAIR_BYTES = 64
# Queries of a block; more would only shorten its part of the database.
QUERIES = 256


def block_relevance(relevance: SharedLabel | Relevance, rows: slice, items: slice) -> Tensor:
    """Return whether each item of a block shares a label with each query of a block: bool (rows, items)."""
    assert not isinstance(relevance, Neighbours)
    query, database = relevance.query[rows], relevance.database[items]
    if isinstance(relevance, SharedLabel):
        return query[:, None] == database[None, :]
    return query.float() @ database.float().T > 0


@final
class TorchEngine(RankingEngine):
    """Engine that ranks codes by matrix products of their bits, in blocks of bounded memory, on any device of torch.

    Args:
        block_bytes: memory of a block of queries × items; 256 MiB keeps an accelerator busy and fits beside a model.
    """

    def __init__(self, block_bytes: int = 256 * 2**20) -> None:
        check_whole(block_bytes, 2**16, "block_bytes")
        self.block_bytes = block_bytes

    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        bins = distance.maximum + 1
        total = torch.zeros(len(query_codes), bins, dtype=torch.int64, device=query_codes.device)
        relevant = torch.zeros_like(total)
        for rows, items, distances in self.blocks(query_codes, database_codes, distance):
            cells = distances + bins * torch.arange(len(distances), device=distances.device)[:, None]
            size = len(distances) * bins
            total[rows] += torch.bincount(cells.flatten(), minlength=size).view(-1, bins)
            if not isinstance(relevance, Neighbours):
                cells = cells[block_relevance(relevance, rows, items)]
                relevant[rows] += torch.bincount(cells, minlength=size).view(-1, bins)
        if isinstance(relevance, Neighbours):
            cells = self._listed_distances(query_codes, database_codes, distance, relevance)
            cells += bins * neighbour_queries(relevance)
            relevant = torch.bincount(cells, minlength=relevant.numel()).view(-1, bins)
        return DistanceCounts(total, relevant)

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        size = len(database_codes)
        nearest = torch.empty(len(query_codes), k, dtype=torch.int64, device=query_codes.device)
        for rows, items, distances in self.blocks(query_codes, database_codes, distance, k):
            # One integer, unique to the item, orders by distance and then by row.
            keys = distances * size + torch.arange(items.start, items.stop, device=distances.device)
            if items.start:
                keys = torch.cat([nearest[rows, : min(k, items.start)], keys], 1)
            block_nearest = keys.topk(min(k, keys.shape[1]), largest=False, sorted=True).values
            nearest[rows, : block_nearest.shape[1]] = block_nearest
        return nearest // size, nearest % size

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        bins, size, device = distance.maximum + 1, len(database_codes), query_codes.device
        # The rank of the next item at each distance.
        following = torch.zeros(len(query_codes), bins + 1, dtype=torch.int64, device=device)
        for rows, _, distances in self.blocks(query_codes, database_codes, distance):
            following[rows, 1:] += _count_histogram(distances, bins)
        following = following.cumsum(1)[:, :-1]
        keys_by_block: list[Tensor] = []
        for rows, items, distances in self.blocks(query_codes, database_codes, distance):
            histogram = _count_histogram(distances, bins)
            order = distances.argsort(dim=1, stable=True)
            place = torch.empty_like(order)
            place.scatter_(1, order, torch.arange(order.shape[1], device=device).expand_as(order))
            # An item's place in the block, minus the first place of its distance, counts the tied items before it.
            ranks = place + (following[rows] - (histogram.cumsum(1) - histogram)).gather(1, distances)
            following[rows] += histogram
            query_rows = torch.arange(rows.start, rows.stop, device=device)[:, None]
            if isinstance(relevance, Neighbours):
                entries = slice(int(relevance.offsets[rows.start]), int(relevance.offsets[rows.stop]))
                ids, queries = relevance.ids[entries], neighbour_queries(relevance)[entries]
                inside = (ids >= items.start) & (ids < items.stop)
                ids, queries = ids[inside], queries[inside]
                keys_by_block.append(queries * size + ranks[queries - rows.start, ids - items.start])
            else:
                keys_by_block.append((query_rows * size + ranks)[block_relevance(relevance, rows, items)])
        keys = torch.cat(keys_by_block).sort().values
        lengths = torch.bincount(keys // size, minlength=len(query_codes))
        return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), keys % size

    def blocks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, extra: int = 0
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield rows, items and distances int64 (rows, items) of blocks; the items of a query come in database order.

        Args:
            query_codes: uint8 (q, B).
            database_codes: uint8 (N, B).
            distance: distance to rank by.
            extra: items that the caller adds to each query's block.
        """
        dtype = form_dtype(distance, query_codes.device)
        offsets, coefficients = form_queries(query_codes, distance)
        per_pair = PAIR_BYTES * QUERIES
        step = self.block_bytes // (per_pair + 16 * form_width(distance))
        queries = max(1, min(QUERIES, self.block_bytes // (PAIR_BYTES * (extra + 1))))
        for first in range(0, len(query_codes), queries):
            rows = slice(first, min(first + queries, len(query_codes)))
            for start in range(0, len(database_codes), max(step, 1)):
                items = slice(start, min(start + max(step, 1), len(database_codes)))
                bits = form_bits(database_codes[items], distance).to(dtype)
                sums = torch.addmm(offsets[rows, None], coefficients[rows], bits.T)
                yield rows, items, sums.round_().to(torch.int64)

    def _listed_distances(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Neighbours
    ) -> Tensor:
        """Compute the distance of each listed neighbour from its query: int64, of the same length as the ids."""
        offsets, coefficients = form_queries(query_codes, distance)
        queries = neighbour_queries(relevance)
        step = max(self.block_bytes // (32 * form_width(distance)), 1)
        distances = torch.empty_like(relevance.ids)
        for start in range(0, len(distances), step):
            entries = slice(start, start + step)
            bits = form_bits(database_codes[relevance.ids[entries]], distance)
            sums = offsets[queries[entries]] + (coefficients[queries[entries]] * bits).sum(1)
            distances[entries] = sums.round().to(torch.int64)
        return distances


def _count_histogram(distances: Tensor, bins: int) -> Tensor:
    """Count the items at each distance, int64 (rows, bins), from distances (rows, items)."""
    cells = distances + bins * torch.arange(len(distances), device=distances.device)[:, None]
    return torch.bincount(cells.flatten(), minlength=len(distances) * bins).view(-1, bins)
