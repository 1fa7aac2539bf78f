"""Ranking on a GPU by Triton kernels."""

from typing import final

import torch
from torch import Tensor

from deephash.codes import pack, unpack
from deephash.ranking import triton_kernels as kernels
from deephash.ranking.base import RankingEngine, neighbour_queries
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance, Hamming, OfLevels
from deephash.ranking.linear_form import form_levels
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError

# Items to a tile: 8 for each of the 128 threads of a program.
TILE = 1024
# Tables of more distances are counted in global memory; 1,025 distances of 1,024 bits still fit.
SHARED_BINS = 2048
# Tiles that a program counts before it adds its tables to the query's: few, so that a small batch fills the GPU.
TILES = 8


def words(codes: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Packed bytes (n, B), padded by zeros to words of `size` bytes: (n, ⌈B/size⌉) of `dtype`."""
    padded = torch.zeros(len(codes), -(-codes.shape[1] // size) * size, dtype=torch.uint8, device=codes.device)
    padded[:, : codes.shape[1]] = codes
    return padded.view(dtype)


def laid_out(codes: Tensor, distance: Distance) -> Tensor:
    """Codes as the kernels read them: int32 words, levels uint8 or bits uint8, (n, width)."""
    if isinstance(distance, Hamming):
        return words(codes, 4, torch.int32)
    if isinstance(distance, OfLevels):
        return form_levels(codes, distance).to(torch.uint8)
    return unpack(codes, distance.bits).to(torch.uint8)


@final
class TritonEngine(RankingEngine):
    """Ranks codes on a CUDA device: histograms in shared memory, relevance computed in the kernel.

    `search` and `relevant_ranks` return lists, not tables: their time goes into selection and sorting, for which
    torch's own CUDA kernels are used (`TorchEngine`).

    Args:
        block_bytes: memory that a block of `search` and `relevant_ranks` may take.
    """

    def __init__(self, block_bytes: int = 256 * 2**20) -> None:
        self._lists = TorchEngine(block_bytes)

    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        _check_device(query_codes)
        queries, database = laid_out(query_codes, distance), laid_out(database_codes, distance)
        weights, kind = queries, kernels.HAMMING
        if isinstance(distance, OfLevels):
            kind = kernels.MANHATTAN
        elif not isinstance(distance, Hamming):
            kind, weights = kernels.ASYMMETRIC, distance.weights.contiguous()
        query_labels, labels, label_width, relevance_kind = queries, database, 1, kernels.LISTED
        if isinstance(relevance, SharedLabel):
            query_labels, labels = relevance.query.contiguous(), relevance.database.contiguous()
            relevance_kind = kernels.LABEL
        elif not isinstance(relevance, Neighbours):
            query_labels, labels = (words(pack(side), 8, torch.int64) for side in (relevance.query, relevance.database))
            label_width, relevance_kind = labels.shape[1], kernels.MASK
        bins = max(16, 1 << distance.maximum.bit_length())
        total = torch.zeros(len(queries), bins, dtype=torch.int32, device=queries.device)
        relevant = torch.zeros_like(total)
        tiles = min(TILES, -(-len(database) // TILE))
        grid = (len(queries), -(-len(database) // (TILE * tiles)))
        kernels.histogram_kernel[grid](
            queries,
            weights,
            database,
            query_labels,
            labels,
            total,
            relevant,
            len(database),
            database.shape[1],
            label_width,
            tiles,
            DISTANCE=kind,
            RELEVANCE=relevance_kind,
            BINS=bins,
            TILE=TILE,
            SHARED=bins <= SHARED_BINS,
        )
        if isinstance(relevance, Neighbours) and len(relevance.ids):
            rows, ids = neighbour_queries(relevance), relevance.ids.contiguous()
            kernels.listed_kernel[(-(-len(ids) // TILE),)](
                queries,
                weights,
                database,
                rows,
                ids,
                relevant,
                len(ids),
                database.shape[1],
                DISTANCE=kind,
                BINS=bins,
                TILE=TILE,
            )
        size = distance.maximum + 1
        return DistanceCounts(total[:, :size].to(torch.int64), relevant[:, :size].to(torch.int64))

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        _check_device(query_codes)
        return self._lists._search(query_codes, database_codes, distance, k)

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        _check_device(query_codes)
        return self._lists._relevant_ranks(query_codes, database_codes, distance, relevance)


def _check_device(query_codes: Tensor) -> None:
    """Refuse codes that Triton cannot reach: on no CUDA device, unless it interprets its kernels.

    Raises:
        InvalidInputError: naming the codes' device.
    """
    interpreted = not hasattr(kernels.histogram_kernel, "device_caches")
    if query_codes.device.type != "cuda" and not interpreted:
        raise InvalidInputError(
            f"TritonEngine ranks codes on a CUDA device and these are on {query_codes.device}; "
            "move them, or use ranking=auto."
        )
