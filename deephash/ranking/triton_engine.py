"""Ranking on a GPU with Triton kernels."""

from dataclasses import dataclass
from typing import final

import torch
import triton
from torch import Tensor

from deephash.codes import pack, unpack
from deephash.ranking import triton_kernels as kernels
from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance, Hamming, LevelDistance
from deephash.ranking.linear_form import form_levels
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel, neighbour_queries
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError

# Items of a tile: 8 for each of the 128 threads of a program.
TILE = 1024
# Tables of more distances are counted in global memory; the 1,025 distances of 1,024-bit codes fit in shared memory.
SHARED_BINS = 2048
# Up to this many distances, k-th neighbours are found by counting; larger tables would outgrow the lists of
# `TorchEngine`.
LISTED_BINS = 65536
# Tiles that a program counts before it adds its table to the query's: few, so that a small batch fills the GPU.
TILES = 8


def view_words(codes: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Pad packed bytes (n, B) with zeros and view them as words of `size` bytes: (n, ⌈B/size⌉) of `dtype`."""
    padded = torch.zeros(len(codes), -(-codes.shape[1] // size) * size, dtype=torch.uint8, device=codes.device)
    padded[:, : codes.shape[1]] = codes
    return padded.view(dtype)


def layout_codes(codes: Tensor, distance: Distance) -> Tensor:
    """Convert codes to the layout of the kernels: int32 words, levels uint8 or bits uint8, (n, width)."""
    if isinstance(distance, Hamming):
        return view_words(codes, 4, torch.int32)
    if isinstance(distance, LevelDistance):
        return form_levels(codes, distance).to(torch.uint8)
    return unpack(codes, distance.bits).to(torch.uint8)


@dataclass(frozen=True)
class Pairs:
    """Queries and database in the layout of the kernels, and the kind of their distance.

    Args:
        queries: (q, width), see `layout_codes`.
        weights: int32 (q, width), the query's cost of each differing bit if the distance is asymmetric; else `queries`.
        database: (width, N).
        kind: HAMMING, MANHATTAN or ASYMMETRIC of the kernels.
        bins: columns of a table of distances: a power of two above the largest.
    """

    queries: Tensor
    weights: Tensor
    database: Tensor
    kind: int
    bins: int

    @classmethod
    def from_codes(cls, query_codes: Tensor, database_codes: Tensor, distance: Distance) -> "Pairs":
        """Lay out packed codes, uint8 (q, B) and (N, B), for `distance`."""
        queries, database = layout_codes(query_codes, distance), layout_codes(database_codes, distance)
        weights, kind = queries, kernels.HAMMING
        if isinstance(distance, LevelDistance):
            kind = kernels.MANHATTAN
        elif not isinstance(distance, Hamming):
            kind, weights = kernels.ASYMMETRIC, distance.weights.contiguous()
        return cls(queries, weights, database.T.contiguous(), kind, max(16, 1 << distance.maximum.bit_length()))

    def select(self, rows: slice | Tensor) -> "Pairs":
        """Return the pairs of some queries."""
        return Pairs(self.queries[rows], self.weights[rows], self.database, self.kind, self.bins)

    @property
    def arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first arguments of every kernel."""
        return self.queries, self.weights, self.database

    @property
    def items(self) -> int:
        """Number of codes N of the database."""
        return self.database.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of codes N, and words, levels or bits of a code."""
        return self.items, self.database.shape[0]

    @property
    def tiles(self) -> int:
        """Number of tiles of the database per program."""
        return min(TILES, -(-self.items // TILE))

    @property
    def grid(self) -> tuple[int, int]:
        """Programs: queries × parts of the database."""
        return len(self.queries), -(-self.items // (TILE * self.tiles))


@final
class TritonEngine(RankingEngine):
    """Engine for codes on a CUDA device: histograms in shared memory, relevance computed in the kernel.

    `search` first counts distances, which gives the distance of each query's k-th neighbour, and then collects and
    sorts only the items up to that distance. `relevant_ranks` orders whole lists with torch's own CUDA kernels
    (`TorchEngine`).

    Args:
        block_bytes: memory of a block of `search` and `relevant_ranks`.
    """

    def __init__(self, block_bytes: int = 256 * 2**20) -> None:
        self._lists = TorchEngine(block_bytes)

    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        _check_device(query_codes)
        pairs = Pairs.from_codes(query_codes, database_codes, distance)
        total, relevant = _count_histograms(pairs, relevance)
        if isinstance(relevance, Neighbours) and len(relevance.ids):
            rows, ids = neighbour_queries(relevance), relevance.ids.contiguous()
            arrays, sizes = (*pairs.arrays, rows, ids, relevant), (len(ids), *pairs.shape)
            grid = (-(-len(ids) // TILE),)
            kernels.listed_kernel[grid](*arrays, *sizes, DISTANCE=pairs.kind, BINS=pairs.bins, TILE=TILE)
        size = distance.maximum + 1
        return DistanceCounts(total[:, :size].to(torch.int64), relevant[:, :size].to(torch.int64))

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        _check_device(query_codes)
        pairs = Pairs.from_codes(query_codes, database_codes, distance)
        if pairs.bins > LISTED_BINS:
            return self._lists._search(query_codes, database_codes, distance, k)
        nearest = torch.empty(len(query_codes), k, dtype=torch.int64, device=query_codes.device)
        # Two int32 tables, and the cumulative sums of one as int64.
        step = max(1, self._lists.block_bytes // (16 * pairs.bins))
        for first in range(0, len(query_codes), step):
            self._collect(pairs.select(slice(first, first + step)), k, nearest[first : first + step])
        return nearest // len(database_codes), nearest % len(database_codes)

    def _collect(self, pairs: Pairs, k: int, nearest: Tensor) -> None:
        """Write each query's k smallest keys, distance * N + item, in order to a block of `nearest`, int64 (q, k)."""
        reached = _count_histograms(pairs, None)[0].cumsum(1)
        # The smallest distance within which there are k items, and the number of items within it, ties included.
        limits = (reached < k).sum(1)
        within = reached.gather(1, limits[:, None])[:, 0]
        # Queries with similar numbers of items share a block, so that a query with many ties does not widen all blocks.
        items_within, order = within.sort()
        ends = items_within.tolist()
        last = len(ends)
        while last:
            capacity = ends[last - 1]
            # Keys, and the copies that a sort makes of them and their positions.
            rows = max(1, min(last, self._lists.block_bytes // (32 * capacity)))
            some = order[last - rows : last]
            keys = torch.full((rows, capacity), torch.iinfo(torch.int64).max, device=nearest.device)
            filled = torch.zeros(rows, dtype=torch.int32, device=nearest.device)
            block = pairs.select(some)
            arrays = (*block.arrays, limits[some].to(torch.int32), filled, keys)
            sizes = (*block.shape, capacity, block.tiles)
            kernels.collect_kernel[block.grid](*arrays, *sizes, DISTANCE=block.kind, TILE=TILE)
            nearest[some] = keys.topk(k, largest=False, sorted=True).values
            last -= rows

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        _check_device(query_codes)
        return self._lists._relevant_ranks(query_codes, database_codes, distance, relevance)


def _count_histograms(pairs: Pairs, relevance: Relevance | None) -> tuple[Tensor, Tensor]:
    """Count the items, and those that a label makes relevant, at each distance: int32 (q, bins), twice."""
    query_labels, labels, label_width, relevance_kind = pairs.queries, pairs.database, 1, kernels.LISTED
    if relevance is not None:
        if isinstance(relevance, SharedLabel):
            query_labels, labels = relevance.query.contiguous(), relevance.database.contiguous()
            relevance_kind = kernels.LABEL
        elif not isinstance(relevance, Neighbours):
            query_labels, labels = (
                view_words(pack(side), 8, torch.int64) for side in (relevance.query, relevance.database)
            )
            label_width, relevance_kind = labels.shape[1], kernels.MASK
    total = torch.zeros(len(pairs.queries), pairs.bins, dtype=torch.int32, device=pairs.queries.device)
    relevant = torch.zeros_like(total)
    arrays = (*pairs.arrays, query_labels, labels, total, relevant)
    sizes = (*pairs.shape, label_width, pairs.tiles)
    kernels.histogram_kernel[pairs.grid](
        *arrays,
        *sizes,
        DISTANCE=pairs.kind,
        RELEVANCE=relevance_kind,
        BINS=pairs.bins,
        TILE=TILE,
        SHARED=pairs.bins <= SHARED_BINS,
    )
    return total, relevant


def _check_device(query_codes: Tensor) -> None:
    """Raise an error for codes that Triton cannot access: not on a CUDA device, unless the kernels are interpreted.

    Raises:
        InvalidInputError: the codes are on another device, or Triton is too old.
    """
    if not kernels.COUNTS_UNDER_MASK:
        raise InvalidInputError(
            f"Triton {triton.__version__} is too old for TritonEngine; install a newer PyTorch, or use ranking=torch."
        )
    interpreted = not isinstance(kernels.histogram_kernel, triton.JITFunction)
    if query_codes.device.type != "cuda" and not interpreted:
        raise InvalidInputError(
            f"TritonEngine ranks codes on a CUDA device, but these are on {query_codes.device}; "
            "move them, or use ranking=auto."
        )
