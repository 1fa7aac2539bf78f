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
from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel, SharedLabels, select_queries
from deephash.validation import InvalidInputError, is_whole

# Queries of one task: whole blocks of a kernel, and few enough to balance the threads.
SHARE = 2 * kernels.BLOCK
# Up to this many queries are searched one by one.
FEW = 6


def run_in_threads(kernel: Kernel, arguments: tuple[Any, ...], queries: int, threads: int) -> None:
    """Call kernel(*arguments, begin, end) over all queries, with threads that exist only for this call.

    Kernels release the GIL, so the threads run in parallel, several callers do not disturb each other, and no thread
    remains that a forked process would lack. numba's own threads have none of these properties.
    """
    share = max(SHARE, -(-queries // (8 * threads * SHARE)) * SHARE)
    begins = range(0, queries, share)
    workers = min(threads, len(begins))
    if workers <= 1:
        kernel(*arguments, 0, queries)
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(kernel, *arguments, begin, min(begin + share, queries)) for begin in begins]:
            done.result()


def pack_masks(labels: Tensor) -> NDArray[np.uint64]:
    """Pack multi-label indicators (n, c) into bit masks of 64-bit words (n, M), M a power of two."""
    return layouts.pack_words(np.packbits(labels.numpy(), axis=1, bitorder="little"))


def list_relevant(relevance: Relevance) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """List each query's relevant items: starts (q,), stops (q,), ascending ids; queries of a class share a list."""
    if isinstance(relevance, SharedLabel):
        order, segments = layouts.segment_by_class(relevance.query.numpy(), relevance.database.numpy())
        return np.ascontiguousarray(segments[:, 0]), np.ascontiguousarray(segments[:, 1]), order
    if isinstance(relevance, SharedLabels):
        offsets, ids = layouts.list_sharing(pack_masks(relevance.query), pack_masks(relevance.database))
    else:
        offsets, ids = relevance.offsets.numpy(), np.ascontiguousarray(relevance.ids.numpy())
    return np.ascontiguousarray(offsets[:-1]), np.ascontiguousarray(offsets[1:]), ids


@final
class NumbaEngine(RankingEngine):
    """Engine for codes in the memory of the CPU: 8 queries in a pass over the database, as fast as C.

    Kernels are compiled at first use, one to three seconds for each code width (1, 2, 4, ... words of 64 bits), and
    cached on disk, beside the package or in NUMBA_CACHE_DIR, so that later processes start at once.

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
            layout = layouts.build_layout(query_codes, database_codes, distance, start, stop)
            one_block = stop - start == len(query_codes)
            self._count(
                layout,
                relevance if one_block else select_queries(relevance, start, stop),
                total[start:stop].numpy(),
                relevant[start:stop].numpy(),
            )
        return DistanceCounts(total, relevant)

    def _count(
        self, layout: layouts.Layout, relevance: Relevance, total: NDArray[np.int64], relevant: NDArray[np.int64]
    ) -> None:
        """Fill the histograms of queries in the kernels' layout."""
        queries, database, count = layout.queries, layout.database, len(layout.queries)
        if isinstance(relevance, SharedLabels):
            query_masks, database_masks = pack_masks(relevance.query), pack_masks(relevance.database)
            mask_kernel = kernels.mask_kernel(layout.words, query_masks.shape[1] if query_masks.shape[1] == 1 else 0)
            self._run(
                mask_kernel, (queries, database, query_masks, database_masks, layout.bins, total, relevant), count
            )
            return
        if isinstance(relevance, SharedLabel):
            labels = relevance.query.numpy()
            order, segments = layouts.segment_by_class(labels, relevance.database.numpy())
            database = layouts.select_rows(database, order)
            rows = np.argsort(labels, kind="stable")
            segments = segments[rows]
        else:
            rows, segments = np.arange(count), np.zeros((count, 2), np.int64)
        segment_kernel = kernels.segment_kernel(layout.words)
        self._run(segment_kernel, (queries, database, rows, segments, layout.bins, total, relevant), count)
        if isinstance(relevance, Neighbours) and len(relevance.ids):
            self._run(kernels.listed_count_kernel(), (queries, database, *list_relevant(relevance), relevant), count)

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        self._check_cpu(query_codes)
        distances = torch.empty(len(query_codes), k, dtype=torch.int64)
        ids = torch.empty(len(query_codes), k, dtype=torch.int64)
        for start, stop in layouts.query_blocks(len(query_codes), distance):
            layout = layouts.build_layout(query_codes, database_codes, distance, start, stop)
            results = (distances[start:stop].numpy(), ids[start:stop].numpy())
            # A pass for eight queries takes as long as several passes for one.
            rows = kernels.BLOCK if layout.words and stop - start > FEW else 1
            kernel = kernels.search_kernel(layout.words, rows)
            self._run(kernel, (layout.queries, layout.database, layout.bins, *results), stop - start)
        return distances, ids

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        self._check_cpu(query_codes)
        starts, stops, ids = list_relevant(relevance)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(stops - starts)])
        ranks = np.empty(offsets[-1], np.int64)
        for start, stop in layouts.query_blocks(len(query_codes), distance):
            layout = layouts.build_layout(query_codes, database_codes, distance, start, stop)
            lists = (starts[start:stop], stops[start:stop], ids)
            arguments = (layout.queries, layout.database, *lists, layout.bins, offsets[start:stop], ranks)
            self._run(kernels.listed_rank_kernel(), arguments, stop - start)
        return torch.from_numpy(offsets), torch.from_numpy(ranks)

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
