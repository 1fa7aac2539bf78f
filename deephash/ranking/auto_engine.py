"""An engine that suits the device and the number of the codes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import final

import torch
from torch import Tensor

from deephash.ranking.base import FewSearch, RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance, Hamming
from deephash.ranking.linear_form import form_width
from deephash.ranking.relevance import Relevance, SharedLabels
from deephash.ranking.torch_engine import TorchEngine

SMALL_SECONDS = 0.25
"""Processor time that a process spends on small rankings of a kind without compiled kernels.

To import numba and load kernels from the disk takes about twice as long, and to compile them ten times as long. So a
process that ranks little does not wait for kernels, and one that ranks much loses a quarter of a second.
"""

# Memory of a block of a small ranking: as fast as a larger one.
SMALL_BLOCK = 2**26


@cache
def select_engine(device: torch.device) -> RankingEngine:
    """Return the Triton engine for a CUDA device, numba for the CPU, and plain torch otherwise or if Triton is old."""
    # numba and Triton take a second each to import, so only the chosen engine is imported.
    if device.type == "cuda":
        from deephash.ranking.triton_engine import TritonEngine
        from deephash.ranking.triton_kernels import COUNTS_UNDER_MASK

        if COUNTS_UNDER_MASK:
            return TritonEngine()
    elif device.type == "cpu":
        from deephash.ranking.numba_engine import NumbaEngine

        return NumbaEngine()
    return TorchEngine()


def estimate_seconds(queries: int, items: int, width: int, sorts: bool) -> float:
    """Estimate the processor time of a ranking by plain torch, as measured on one core.

    Args:
        queries: number of queries.
        items: number of items.
        width: number of bits of an item in the linear form of the distance, and of its classes.
        sorts: whether all distances of a query are sorted.
    """
    # To unpack an item costs as much as to rank it for 10 queries.
    return items * (queries + 10) * (10 + width / 32) * 1e-9 * (8 if sorts else 1)


class SmallRankings:
    """Account of the processor time of small rankings, for one process.

    Args:
        seconds: processor time for each kind of ranking.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._spent: dict[tuple[str, str], float] = defaultdict(float)
        self._lock = Lock()

    def accept(self, kind: tuple[str, str], seconds: float) -> bool:
        """Return whether a ranking is small enough for plain torch, and add its time to the account.

        After the first ranking of a kind that is not, the kernels are loaded and no further one is accepted.
        """
        self._spent[kind] += seconds
        return self._spent[kind] <= self.seconds

    def is_spent(self, kind: tuple[str, str]) -> bool:
        """Return whether no further ranking of a kind is accepted."""
        return self._spent[kind] > self.seconds

    @contextmanager
    def single_thread(self) -> Iterator[None]:
        """Limit torch to one thread within the block; threads that rank at the same time take turns.

        Other threads would save milliseconds, but wait for a busy core. In a forked process, they would never start.
        """
        with self._lock:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                yield
            finally:
                torch.set_num_threads(threads)


small_rankings = SmallRankings(SMALL_SECONDS)


@final
class AutoEngine(RankingEngine):
    """The engine that `select_engine` returns for the device of the codes; plain torch for a little work on the CPU.

    The compiled kernels of the CPU are loaded, or compiled if they are not on the disk, once a process ranks more than
    plain torch does in a quarter of a second. All engines return the same results.
    """

    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        classes = relevance.query.shape[1] if isinstance(relevance, SharedLabels) else 0
        if self._is_small("rank", query_codes, database_codes, distance, classes):
            with small_rankings.single_thread():
                return TorchEngine(SMALL_BLOCK)._rank(query_codes, database_codes, distance, relevance)
        return select_engine(query_codes.device)._rank(query_codes, database_codes, distance, relevance)

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        if self._is_small("search", query_codes, database_codes, distance, sorts=16 * k > len(database_codes)):
            with small_rankings.single_thread():
                return TorchEngine(SMALL_BLOCK)._search(query_codes, database_codes, distance, k)
        return select_engine(query_codes.device)._search(query_codes, database_codes, distance, k)

    def _search_among(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self._is_small("search", query_codes, database_codes, distance, sorts=16 * k > len(database_codes)):
            with small_rankings.single_thread():
                return TorchEngine(SMALL_BLOCK)._search_among(query_codes, database_codes, distance, k, allowed)
        return select_engine(query_codes.device)._search_among(query_codes, database_codes, distance, k, allowed)

    def few_search(self) -> FewSearch | None:
        """Return that of the kernels, once they are loaded."""
        if not small_rankings.is_spent(("search", Hamming.__name__)):
            return None
        return select_engine(torch.device("cpu")).few_search()

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        if self._is_small("relevant_ranks", query_codes, database_codes, distance, sorts=True):
            with small_rankings.single_thread():
                return TorchEngine(SMALL_BLOCK)._relevant_ranks(query_codes, database_codes, distance, relevance)
        return select_engine(query_codes.device)._relevant_ranks(query_codes, database_codes, distance, relevance)

    @staticmethod
    def _is_small(
        task: str,
        query_codes: Tensor,
        database_codes: Tensor,
        distance: Distance,
        classes: int = 0,
        *,
        sorts: bool = False,
    ) -> bool:
        if query_codes.device.type != "cpu":
            return False
        kind = (task, type(distance).__name__)
        if small_rankings.is_spent(kind):
            return False
        width = form_width(distance) + classes
        seconds = estimate_seconds(len(query_codes), len(database_codes), width, sorts)
        return small_rankings.accept(kind, seconds)
