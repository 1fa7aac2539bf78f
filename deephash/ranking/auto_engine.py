"""An engine that suits the device of the codes."""

from typing import final

import torch
from torch import Tensor

from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance
from deephash.ranking.relevance import Relevance


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
    from deephash.ranking.torch_engine import TorchEngine

    return TorchEngine()


@final
class AutoEngine(RankingEngine):
    """The engine that `select_engine` returns for the device of the codes."""

    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        return select_engine(query_codes.device)._rank(query_codes, database_codes, distance, relevance)

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        return select_engine(query_codes.device)._search(query_codes, database_codes, distance, k)

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        return select_engine(query_codes.device)._relevant_ranks(query_codes, database_codes, distance, relevance)
