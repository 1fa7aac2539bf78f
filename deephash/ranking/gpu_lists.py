"""Lists of nearest items on a GPU: a limit for each query's distances, then all items within it, then their order."""

from typing import Literal, Protocol, Self, get_args

import torch
from torch import Tensor

Lists = Literal["count", "sample", "fused"]
"""How limits are found: from all items, from a sample of them, or with the items in one launch."""
LISTS: tuple[Lists, ...] = get_args(Lists)

# Items for each one of a sample, and items that a limit from a sample is expected to admit: k for each of the former.
MAX_STRIDE, MAX_ADMITTED = 32, 2048
# Room for items that a limit from a sample admits, in multiples of the expected number; ties need it.
SLACK = 4
# A smaller sample takes as long as all its launches.
MIN_SAMPLE = 2**14


class Scan(Protocol):
    """Queries and items in a layout whose kernels find the items within a distance."""

    @property
    def query_count(self) -> int:
        """Number of queries q."""

    @property
    def places(self) -> int:
        """Number of places of items, a multiple of which orders keys by distance."""

    @property
    def device(self) -> torch.device:
        """Device of the layout."""

    @property
    def limit_bytes(self) -> int:
        """Memory of `find_limits` for a query."""

    def select(self, rows: slice | Tensor) -> Self:
        """Return the scan of some queries."""

    def sample(self, stride: int) -> Self:
        """Return the scan of about one in `stride` items."""

    def find_limits(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the least distance within which each query has k items, and the number of these: int64 (q,).

        With fewer items in all, the distance is one that no item exceeds.
        """

    def collect(self, limits: Tensor, filled: Tensor, keys: Tensor) -> None:
        """Write keys, distance * places + place, of the items within limits int32 (q,) to keys int64 (q, capacity).

        filled, int32 (q,), counts these items; those beyond the capacity are not written.
        """


def sample_stride(k: int, items: int) -> int:
    """Return how many items there are for each one of the sample that limits the distances of k items."""
    return max(1, min(MAX_STRIDE, MAX_ADMITTED // k, items // MIN_SAMPLE))


def find_nearest(scan: Scan, k: int, block_bytes: int, *, sampled: bool) -> Tensor:
    """Return the keys of each query's k nearest items in order, int64 (q, k).

    Args:
        scan: queries and at least k items.
        k: number of items.
        block_bytes: memory of a block of queries.
        sampled: whether limits come from a sample. They admit at least the k nearest items of all. Queries with more
            items than there is room for are searched again with limits from all items.
    """
    nearest = torch.empty(scan.query_count, k, dtype=torch.int64, device=scan.device)
    stride = sample_stride(k, scan.places) if sampled else 1
    if stride == 1:
        _find_exactly(scan, k, block_bytes, nearest)
        return nearest
    capacity = SLACK * k * stride
    # Keys, and the copies that a selection makes of them and their positions.
    step = max(1, block_bytes // (32 * capacity + scan.limit_bytes))
    sample = scan.sample(stride)
    filled = torch.zeros(scan.query_count, dtype=torch.int32, device=scan.device)
    for start in range(0, scan.query_count, step):
        rows = slice(start, start + step)
        limits = sample.select(rows).find_limits(k)[0]
        nearest[rows] = _collect_nearest(scan.select(rows), limits, filled[rows], k, capacity)
    late = torch.nonzero(filled > capacity)[:, 0]
    if len(late):
        found = torch.empty(len(late), k, dtype=torch.int64, device=scan.device)
        _find_exactly(scan.select(late), k, block_bytes, found)
        nearest[late] = found
    return nearest


def _find_exactly(scan: Scan, k: int, block_bytes: int, nearest: Tensor) -> None:
    """Write the keys of `find_nearest` to `nearest`, with limits from all items."""
    count = scan.query_count
    limits = torch.empty(count, dtype=torch.int64, device=scan.device)
    within = torch.empty_like(limits)
    step = max(1, block_bytes // scan.limit_bytes)
    for start in range(0, count, step):
        rows = slice(start, start + step)
        limits[rows], within[rows] = scan.select(rows).find_limits(k)
    # Queries with similar numbers of items share a block, so that a query with many ties does not widen all blocks.
    items_within, order = within.sort()
    ends = items_within.tolist()
    last = count
    while last:
        capacity = ends[last - 1]
        size = max(1, min(last, block_bytes // (32 * capacity)))
        some = order[last - size : last]
        filled = torch.zeros(size, dtype=torch.int32, device=scan.device)
        nearest[some] = _collect_nearest(scan.select(some), limits[some], filled, k, capacity)
        last -= size


def _collect_nearest(scan: Scan, limits: Tensor, filled: Tensor, k: int, capacity: int) -> Tensor:
    """Return the k smallest keys within the limits in order, int64 (q, k), if there is room for all."""
    keys = torch.full((scan.query_count, capacity), torch.iinfo(torch.int64).max, device=scan.device)
    scan.collect(limits.to(torch.int32), filled, keys)
    return keys.topk(k, largest=False, sorted=True).values
