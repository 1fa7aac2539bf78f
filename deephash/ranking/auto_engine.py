"""The engine that suits the codes' device."""

from typing import final

import torch
from torch import Tensor

from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance
from deephash.ranking.relevance import Relevance


def select_engine(device: torch.device) -> RankingEngine:
    """Triton on a CUDA device, numba on the CPU, plain torch anywhere else."""
    # Imported where it is chosen: numba and Triton take a second each.
    if device.type == "cuda":
        from deephash.ranking.triton_engine import TritonEngine

        return TritonEngine()
    if device.type == "cpu":
        from deephash.ranking.numba_engine import NumbaEngine

        return NumbaEngine()
    from deephash.ranking.torch_engine import TorchEngine

    return TorchEngine()


@final
class AutoEngine(RankingEngine):
    """Ranks with `select_engine` the device that the codes are on."""

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
