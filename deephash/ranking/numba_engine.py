"""Ranking on the CPU with compiled kernels and threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.functional.compiled import Kernel
from deephash.ranking import numba_kernels as kernels
from deephash.ranking import numba_layout as layouts
from deephash.ranking.allowed_rows import is_copied, take_codes
from deephash.ranking.base import FewSearch, RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Asymmetric, Distance, Hamming
from deephash.ranking.nearest_merge import merge_nearest
from deephash.ranking.numba_relevance import list_relevant, pack_masks, segment_by_class, transpose_masks
from deephash.ranking.numba_rows import pack_rows
from deephash.ranking.numba_search import search_nearest
from deephash.ranking.relevance import Relevance, SharedLabel, SharedLabels, select_queries
from deephash.validation import InvalidInputError, is_whole

# Queries of one task: whole blocks of a kernel, and few enough to balance the threads.
SHARE = 2 * kernels.BLOCK
# Items of a part of the database that is laid out and searched at a time, so that the memory is bounded.
PART = 1 << 22
SCRATCHES = [np.empty(0, kind) for kind in (np.uint8, np.uint16, np.uint32)]
NO_WEIGHTS = np.empty((0, 0), np.int32)
ALL = np.empty(0, bool)


def run_in_threads(kernel: Kernel, arguments: tuple[Any, ...], queries: int, threads: int, least: int = SHARE) -> None:
    """Call kernel(*arguments, begin, end) over all queries, with threads that exist only for this call.

    A task has a multiple of `least` queries; kernels that take long for one query have tasks of single ones.

    Kernels release the GIL, so the threads run in parallel, several callers do not disturb each other, and no thread
    remains that a forked process would lack. numba's own threads have none of these properties.
    """
    share = max(least, -(-queries // (8 * threads * least)) * least)
    begins = range(0, queries, share)
    workers = min(threads, len(begins))
    if workers <= 1:
        kernel(*arguments, 0, queries)
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(kernel, *arguments, begin, min(begin + share, queries)) for begin in begins]:
            done.result()


def search_few(
    queries: NDArray[np.uint8], database: NDArray[np.uint8], bits: int, k: int, allowed: NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    """Find the k nearest codes of a few queries in this thread; a search may take less time than to start another.

    Calls of torch are avoided, since each takes as long as the comparison of thousands of codes.

    Args:
        queries: packed codes uint8 (q, B), q from 1 to FEW.
        database: packed codes uint8 (N, B).
        bits: code length b.
        k: number of neighbours, 1 to the number of allowed items.
        allowed: bool (N,), false for an item that must not be found; (0,) to allow all.
    """
    items, size = database.shape[0], queries.shape[0]
    if items > PART:
        found, ids = [], []
        for first, count in list_parts(items, allowed):
            part = slice(first, first + PART)
            distances, rows = search_few(queries, database[part], bits, min(k, count), allowed[part])
            found.append(distances)
            ids.append(rows.add_(first))
        return merge_nearest(found, ids, k)
    near, places = np.empty((size, k), np.int64), np.empty((size, k), np.int64)
    scratch = SCRATCHES[0 if bits < 1 << 8 else 1 if bits < 1 << 16 else 2]
    codes: NDArray[np.uint8 | np.uint64]
    if layouts.FEW_FORM == "rows":
        asked, codes = pack_rows(queries), np.ascontiguousarray(database)
    else:
        asked, codes = layouts.pack_words(queries), layouts.pack_words(database)
    search_nearest(asked, codes, items, 1, scratch, bits + 1, allowed, near, places, 0, size)
    return torch.from_numpy(near), torch.from_numpy(places)


def list_parts(items: int, allowed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first item of each part of a database, and the number of its allowed items, if there are any.

    Args:
        items: number of items N.
        allowed: bool (N,), or (0,) if all are allowed.
    """
    firsts = range(0, items, PART)
    if not len(allowed):
        return [(first, min(PART, items - first)) for first in firsts]
    counts = [int(np.count_nonzero(allowed[first : first + PART])) for first in firsts]
    return [(first, count) for first, count in zip(firsts, counts, strict=True) if count]


@final
class NumbaEngine(RankingEngine):
    """Engine for codes in the memory of the CPU: 8 queries in a pass over the database, in vector instructions.

    Kernels are compiled at first use, in a few seconds, and cached on disk, beside the package or in NUMBA_CACHE_DIR,
    so that later processes start at once.

    Args:
        threads: number of threads; None uses torch's number, which torch.set_num_threads and OMP_NUM_THREADS set.
    """

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None and not (is_whole(threads) and threads >= 1):
            raise InvalidInputError(f"threads={threads!r}; expected a whole number of at least 1, or null for all.")
        self.threads = threads

    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        self._check_cpu(query_codes)
        total = torch.zeros(len(query_codes), distance.maximum + 1, dtype=torch.int64)
        relevant = torch.zeros_like(total)
        for start, stop in layouts.query_blocks(len(query_codes), distance):
            one_block = stop - start == len(query_codes)
            part = relevance if one_block else select_queries(relevance, start, stop)
            results = (total[start:stop].numpy(), relevant[start:stop].numpy())
            if isinstance(part, SharedLabels):
                layout = self._lay_out(query_codes, database_codes, distance, start, stop)
                masks = (pack_masks(part.query), transpose_masks(part.database))
                self._run(kernels.count_sharing, (*layout.arguments, *masks, *results), stop - start)
                continue
            nothing = np.zeros((stop - start, 2), np.int64)
            if isinstance(part, SharedLabel):
                order, segments = segment_by_class(part.query.numpy(), part.database.numpy())
                lists, ids = nothing, order[:0]
            else:
                order, segments = None, nothing
                lists, ids = list_relevant(part)
            layout = self._lay_out(query_codes, database_codes, distance, start, stop, order)
            self._run(kernels.count_relevant, (*layout.arguments, segments, lists, ids, *results), stop - start)
        return DistanceCounts(total, relevant)

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        return self._search_rows(query_codes, database_codes, distance, k, ALL)

    def _search_among(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        self._check_cpu(query_codes)
        mask = allowed.contiguous().numpy()
        count = int(np.count_nonzero(mask))
        if not is_copied(len(query_codes), count, len(mask)):
            return self._search_rows(query_codes, database_codes, distance, k, mask)
        rows = np.flatnonzero(mask)
        taken = torch.from_numpy(take_codes(database_codes.contiguous().numpy(), rows))
        distances, places = self._search_rows(query_codes, taken, distance, k, ALL)
        return distances, torch.from_numpy(rows.take(places.numpy()))

    def _search_rows(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int, allowed: NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor]:
        """Search among the allowed rows, bool (N,), or (0,) for all."""
        self._check_cpu(query_codes)
        if query_codes.shape[0] <= layouts.FEW and isinstance(distance, Hamming):
            return search_few(query_codes.numpy(), database_codes.numpy(), distance.bits, k, allowed)
        found: list[tuple[Tensor, Tensor]] = []
        for first, count in list_parts(len(database_codes), allowed):
            part = database_codes[first : first + PART]
            distances = torch.empty(len(query_codes), min(k, count), dtype=torch.int64)
            ids = torch.empty_like(distances)
            for start, stop in layouts.query_blocks(len(query_codes), distance):
                layout = self._lay_out(query_codes, part, distance, start, stop)
                results = (allowed[first : first + PART], distances[start:stop].numpy(), ids[start:stop].numpy())
                self._run(search_nearest, (*layout.arguments, distance.maximum + 1, *results), stop - start)
            found.append((distances, ids.add_(first)))
        if len(found) == 1:
            return found[0]
        return merge_nearest([distances for distances, _ in found], [ids for _, ids in found], k)

    def few_search(self) -> FewSearch | None:
        """Return `search_few`."""
        return search_few

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        self._check_cpu(query_codes)
        lists, ids = list_relevant(relevance)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lists[:, 1] - lists[:, 0])])
        ranks = np.empty(offsets[-1], np.int64)
        for start, stop in layouts.query_blocks(len(query_codes), distance):
            layout = self._lay_out(query_codes, database_codes, distance, start, stop)
            arguments = (distance.maximum + 1, lists[start:stop], ids, offsets[start:stop], ranks)
            self._run(kernels.rank_listed, (*layout.arguments, *arguments), stop - start)
        return torch.from_numpy(offsets), torch.from_numpy(ranks)

    @staticmethod
    def _lay_out(
        query_codes: Tensor,
        database_codes: Tensor,
        distance: Distance,
        start: int,
        stop: int,
        order: NDArray[np.int64] | None = None,
    ) -> layouts.Layout:
        """Lay out the queries start to stop, and the database in an order."""
        queries, database = query_codes[start:stop].contiguous().numpy(), database_codes.contiguous().numpy()
        weights = distance.weights[start:stop].contiguous().numpy() if isinstance(distance, Asymmetric) else NO_WEIGHTS
        return layouts.build_layout(queries, database, distance, weights, order)

    def _run(self, kernel: Kernel, arguments: tuple[Any, ...], queries: int) -> None:
        threads = self.threads or min(torch.get_num_threads(), os.cpu_count() or 1)
        run_in_threads(kernel, arguments, queries, threads)

    @staticmethod
    def _check_cpu(query_codes: Tensor) -> None:
        if query_codes.device.type != "cpu":
            raise InvalidInputError(
                f"NumbaEngine ranks codes on the CPU, but these are on {query_codes.device}; "
                "move them, or use ranking=auto."
            )
