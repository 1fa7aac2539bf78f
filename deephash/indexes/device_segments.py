"""Codes that stay on a device: consecutive rows of an index, searched in blocks of bounded memory."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.ranking.distance import Hamming
from deephash.ranking.gpu_lists import find_nearest
from deephash.ranking.torch_engine import TorchEngine

if TYPE_CHECKING:  # The module imports Triton.
    from deephash.ranking.plane_queries import PlaneQueries

Found = tuple[Tensor, Tensor]
"""Distances and rows."""


class Segment(ABC):
    """Rows `first` to `first + count` of an index on one device.

    Args:
        first: first row.
        capacity: number of rows that there is memory for.
        bits: code length b.
        device: the device.
        block_bytes: memory of a block of a search.
    """

    def __init__(self, first: int, capacity: int, bits: int, device: torch.device, block_bytes: int) -> None:
        self.first, self.capacity, self.count = first, capacity, 0
        self.bits, self.device, self.block_bytes = bits, device, block_bytes

    @abstractmethod
    def write(self, codes: Tensor, start: int) -> None:
        """Take the codes from row `start` of the segment on; `codes` uint8 (count, B) are all codes of the segment."""

    @abstractmethod
    def move_mask(self, allowed: NDArray[np.bool_]) -> Tensor:
        """Move the mask of a search, bool (count,), to the device."""

    @abstractmethod
    def search(self, queries: Tensor, k: int, mask: Tensor | None) -> Found:
        """Return distances and rows of the k nearest allowed codes in order, int64 (q, k) on the CPU.

        Args:
            queries: packed codes uint8 (q, B) on the CPU.
            k: number of neighbours, at most the number of allowed rows.
            mask: what `move_mask` returned; None allows all rows.
        """

    @abstractmethod
    def within(self, queries: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, distances and rows of all codes within a radius, int64 (n,) on the CPU, in no order."""


class TorchSegment(Segment):
    """Packed codes, searched by matrix products on any device of torch."""

    def __init__(self, first: int, capacity: int, bits: int, device: torch.device, block_bytes: int) -> None:
        super().__init__(first, capacity, bits, device, block_bytes)
        self._codes = torch.empty(capacity, (bits + 7) // 8, dtype=torch.uint8, device=device)
        self._engine = TorchEngine(block_bytes)

    def write(self, codes: Tensor, start: int) -> None:
        """Copy the codes."""
        self._codes[start : len(codes)] = codes[start:].to(self.device)
        self.count = len(codes)

    def move_mask(self, allowed: NDArray[np.bool_]) -> Tensor:
        """Return the allowed rows, int64."""
        return torch.from_numpy(np.flatnonzero(allowed)).to(self.device)

    def search(self, queries: Tensor, k: int, mask: Tensor | None) -> Found:
        """Search a copy of the allowed codes."""
        held = self._codes[: self.count] if mask is None else self._codes[mask]
        distances, rows = self._engine.search(queries.to(self.device), held, Hamming(self.bits), k)
        rows = rows if mask is None else mask[rows]
        return distances.cpu(), rows.cpu() + self.first

    def within(self, queries: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """Compare block by block."""
        found = []
        held = self._codes[: self.count]
        for rows, items, distances in self._engine.blocks(queries.to(self.device), held, Hamming(self.bits)):
            query, item = torch.nonzero(distances <= radius, as_tuple=True)
            near = distances[query, item]
            found.append(((query + rows.start).cpu(), near.cpu(), (item + items.start).cpu() + self.first))
        own, near, ids = (torch.cat(parts) for parts in zip(*found, strict=True))
        return own, near, ids


class PlaneSegment(Segment):
    """Codes in bit planes, searched by Triton kernels on a CUDA device: 8 bytes for a code of 64 bits."""

    def __init__(self, first: int, capacity: int, bits: int, device: torch.device, block_bytes: int) -> None:
        from deephash.ranking.bit_planes import BlockedCodes

        super().__init__(first, capacity, bits, device, block_bytes)
        self._blocks = BlockedCodes.empty(capacity, bits, device)
        self._block_rows = self._blocks.places // len(self._blocks.planes)

    def write(self, codes: Tensor, start: int) -> None:
        """Lay out the blocks from that of row `start` on, some of them at a time."""
        step = max(1, self.block_bytes // (64 * self._block_rows * self.bits))
        for block in range(start // self._block_rows, -(-len(codes) // self._block_rows), step):
            part = slice(block * self._block_rows, (block + step) * self._block_rows)
            self._blocks.write(block, codes[part].to(self.device))
        self.count = len(codes)

    def move_mask(self, allowed: NDArray[np.bool_]) -> Tensor:
        """Return the mask as words of the blocks."""
        words = np.zeros(self._blocks.places // 8, np.uint8)
        packed = np.packbits(allowed, bitorder="little")
        words[: len(packed)] = packed
        return torch.from_numpy(words).view(torch.int32).view(self._blocks.valid.shape).to(self.device)

    def search(self, queries: Tensor, k: int, mask: Tensor | None) -> Found:
        """Limit each query's distances by a sample of the codes, and collect all codes within the limit."""
        with self._on_device():
            scan = self._scan(queries, mask)
            keys = find_nearest(scan, k, self.block_bytes, sampled=True).cpu()
        return keys // scan.places, keys % scan.places + self.first

    def within(self, queries: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        """Count the codes within the radius, then collect them."""
        with self._on_device():
            scan = self._scan(queries, None)
            limits = torch.full((len(queries),), radius, dtype=torch.int32, device=self.device)
            counts = scan.count_within(limits).tolist()
            own, keys = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
            start = 0
            while start < len(queries):
                stop = start + 1
                while stop < len(queries) and 8 * (stop + 1 - start) * max(counts[start : stop + 1]) < self.block_bytes:
                    stop += 1
                rows, size = slice(start, stop), max(counts[start:stop])
                collected = torch.full((stop - start, size), -1, device=self.device)
                filled = torch.zeros(stop - start, dtype=torch.int32, device=self.device)
                if size:
                    scan.select(rows).collect(limits[rows], filled, collected)
                query, place = torch.nonzero(collected >= 0, as_tuple=True)
                own.append(query.cpu() + start)
                keys.append(collected[query, place].cpu())
                start = stop
        merged = torch.cat(keys)
        return torch.cat(own), merged // scan.places, merged % scan.places + self.first

    def _scan(self, queries: Tensor, mask: Tensor | None) -> "PlaneQueries":
        from deephash.ranking.bit_planes import BlockedCodes
        from deephash.ranking.plane_queries import PlaneQueries

        held = self._blocks if mask is None else BlockedCodes(self._blocks.planes, mask, self.bits)
        return PlaneQueries.from_codes(queries.to(self.device), held)

    def _on_device(self) -> AbstractContextManager[object]:
        """Launch kernels on the segment's device; on the CPU, they are interpreted."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


def segment_class(device: torch.device) -> type[Segment]:
    """Return the class of segments for a device: bit planes on CUDA, unless Triton is too old, else plain torch."""
    if device.type == "cuda":
        from deephash.ranking.triton_kernels import COUNTS_UNDER_MASK

        if COUNTS_UNDER_MASK:
            return PlaneSegment
    return TorchSegment
