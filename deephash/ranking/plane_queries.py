"""Queries against codes in bit planes, on a CUDA device: counts of distances, and items within a distance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.ranking import bit_planes
from deephash.ranking import triton_planes as kernels
from deephash.ranking.bit_planes import BlockedCodes, chunk_size, query_flips, row_count, steps_of


@dataclass(frozen=True)
class PlaneQueries:
    """Queries and blocked codes in the layout of `triton_planes`; a `Scan` of `gpu_lists`.

    Args:
        flips: bits of the queries int32 (q, rows), 0 or -1.
        blocks: codes.
    """

    flips: Tensor
    blocks: BlockedCodes

    @classmethod
    def from_codes(cls, query_codes: Tensor, blocks: BlockedCodes) -> "PlaneQueries":
        """Lay out packed queries uint8 (q, B)."""
        return cls(query_flips(query_codes, blocks.bits), blocks)

    @property
    def query_count(self) -> int:
        """Number of queries q."""
        return len(self.flips)

    @property
    def places(self) -> int:
        """Number of places of items."""
        return self.blocks.places

    @property
    def device(self) -> torch.device:
        """Device of the layout."""
        return self.flips.device

    @property
    def limit_bytes(self) -> int:
        """Memory of `find_limits` for a query."""
        return 64

    @property
    def _sizes(self) -> dict[str, int | bool]:
        """Compile-time constants of the kernels."""
        rows, chunk = row_count(self.blocks.bits), chunk_size(self.blocks.bits)
        return {"PLANES": rows.bit_length(), "CHUNK": chunk, "HELD": chunk == rows, "LANES": bit_planes.LANES}

    @property
    def _chunks(self) -> int:
        return row_count(self.blocks.bits) // chunk_size(self.blocks.bits)

    def select(self, rows: slice | Tensor) -> "PlaneQueries":
        """Return the same codes with some queries."""
        return PlaneQueries(self.flips[rows], self.blocks)

    def sample(self, stride: int) -> "PlaneQueries":
        """Return the queries with every `stride`-th block of the codes."""
        planes, valid = self.blocks.planes[::stride].contiguous(), self.blocks.valid[::stride].contiguous()
        return PlaneQueries(self.flips, BlockedCodes(planes, valid, self.blocks.bits))

    def count(
        self, parts: Tensor, part_labels: Tensor | None = None, query_labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Count the items at each distance, and those with the query's label: int32 (q, b + 1), twice.

        Args:
            parts: first block and end of the blocks of each program, int32 (parts, 2).
            part_labels: label of the items of each part, int64 (parts,); None counts no relevant items.
            query_labels: label of each query, int64 (q,).
        """
        shape = (len(self.flips), 2, self.blocks.bits + 1, bit_planes.LANES)
        tables = torch.zeros(shape, dtype=torch.int32, device=self.device)
        labelled = query_labels is not None and part_labels is not None
        # Without labels, the kernel does not read these arguments.
        labels = (query_labels, part_labels) if labelled else (parts, parts)
        arrays = (self.blocks.planes, self.blocks.valid, self.flips, *labels, parts, tables)
        grid = (len(self.flips), len(parts))
        sizes = {"BITS": self.blocks.bits, "LABELLED": labelled, **self._sizes}
        kernels.planes_histogram_kernel[grid](*arrays, self._chunks, **sizes, num_warps=1)
        sums = tables.sum(3, dtype=torch.int32)
        return sums.sum(1, dtype=torch.int32), sums[:, 1]

    def count_within(self, limits: Tensor) -> Tensor:
        """Count the items within each query's distance limits int32 (q,): int32 (q,)."""
        filled = torch.zeros(len(self.flips), dtype=torch.int32, device=self.device)
        self._launch(limits, filled, filled, 0, stored=False)
        return filled

    def find_limits(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the least distance within which each query has k items, and their number, int64 (q,), by bisection."""
        limits = torch.zeros(len(self.flips), dtype=torch.int32, device=self.device)
        for place in reversed(range(self.blocks.bits.bit_length())):
            # With fewer than k items within the largest number without this bit, the limit has it.
            short = self.count_within(limits + ((1 << place) - 1)) < k
            limits += short.to(torch.int32) << place
        limits.clamp_(max=self.blocks.bits)
        return limits.to(torch.int64), self.count_within(limits).to(torch.int64)

    def collect(self, limits: Tensor, filled: Tensor, keys: Tensor) -> None:
        """Write keys, distance * places + place, of the items within limits; see `gpu_lists.Scan`."""
        self._launch(limits, filled, keys, keys.shape[1], stored=True)

    def _launch(self, limits: Tensor, filled: Tensor, keys: Tensor, capacity: int, *, stored: bool) -> None:
        n_blocks = len(self.blocks.planes)
        steps = steps_of(n_blocks)
        grid = (len(self.flips), -(-n_blocks // steps))
        arrays = (self.blocks.planes, self.blocks.valid, self.flips, limits, filled, keys)
        sizes = (n_blocks, steps, self._chunks, self.places, capacity)
        kernels.planes_within_kernel[grid](*arrays, *sizes, STORED=stored, **self._sizes, num_warps=1)
