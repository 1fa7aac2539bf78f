"""A scan of codes that stay on one or several GPUs: exact."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index
from deephash.indexes.device_segments import Segment, segment_class
from deephash.indexes.item_rows import Change
from deephash.indexes.neighbour_lists import WithinRadius, arrange_within
from deephash.validation import InvalidInputError, check_whole

# Rows that an added segment has room for at least.
MIN_CAPACITY = 2**20
# Spare room of the segments that an index is built with, as a share of their rows.
SPARE = 1 / 64

T = TypeVar("T")


@final
class GPU(Index):
    """Scan of codes in the memory of one or several devices, in words of bit planes that Triton kernels read.

    Codes of 64 bits take 8 bytes each on the device, and again in the memory of the host. A filter is a mask of bits,
    and costs no time. On other devices than CUDA's, such as `cpu`, plain torch searches.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        device: device of the codes, such as `cuda` or `cuda:1`, or a list of devices that share the codes.
        block_bytes: memory of a block of a search on each device.

    Raises:
        InvalidInputError: a device that is not there.
    """

    takes_changes = True
    max_removed = 0.25  # Removed rows cost memory and no time.

    def __init__(
        self, codes: Tensor, bits: int, device: str | Sequence[str] = "cuda", block_bytes: int = 2**28
    ) -> None:
        self._devices = find_devices(device)
        check_whole(block_bytes, 2**16, "block_bytes")
        super().__init__(codes, bits)
        self.device = device if isinstance(device, str) else list(device)
        self.block_bytes = block_bytes
        self._build()

    def _build(self) -> None:
        self._kept: list[Tensor] | None = None
        rows, shares = self.items.rows, len(self._devices)
        self._segments: list[Segment] = []
        for place, device in enumerate(self._devices):
            first, stop = rows * place // shares, rows * (place + 1) // shares
            if first < stop:
                self._add_segment(device, first, stop, int((stop - first) * (1 + SPARE)))

    def _extend(self, first: int) -> None:
        self._kept = None
        rows, last = self.items.rows, self._segments[-1]
        stop = min(rows, last.first + last.capacity)
        if stop > first:
            last.write(self.codes[last.first : stop], first - last.first)
        if stop < rows:
            loads = [sum(each.capacity for each in self._segments if each.device == own) for own in self._devices]
            device = self._devices[loads.index(min(loads))]
            self._add_segment(device, stop, rows, max(MIN_CAPACITY, rows - stop))

    def _add_segment(self, device: torch.device, first: int, stop: int, capacity: int) -> None:
        segment = segment_class(device)(first, capacity, self.bits, device, self.block_bytes)
        segment.write(self.codes[first:stop], 0)
        self._segments.append(segment)

    def rebuild(self) -> None:
        """Drop the rows of removed items; searches wait, since two copies may exceed the memory of a device."""
        self._check_items()
        with self.guard:
            self._renumber(self.items.compact())

    def _carry_out(self, change: Change) -> None:
        super()._carry_out(change)
        self._kept = None

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        counts = [segment.count for segment in self._segments]
        return self._merge(queries, k, counts, [None] * len(counts))

    def _search_among(
        self, queries: Tensor, k: int, allowed: NDArray[np.bool_], count: int, *, is_filter: bool
    ) -> tuple[Tensor, Tensor]:
        parts = [allowed[each.first : each.first + each.count] for each in self._segments]
        masks = None if is_filter else self._kept
        if masks is None:
            masks = [segment.move_mask(part) for segment, part in zip(self._segments, parts, strict=True)]
            if not is_filter:  # Of removed rows, for all searches until the next change.
                self._kept = masks
        return self._merge(queries, k, [int(np.count_nonzero(part)) for part in parts], masks)

    def _merge(
        self, queries: Tensor, k: int, counts: Sequence[int], masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Search each segment for up to k of its `counts` allowed rows, and merge the lists."""

        def search(place: int) -> tuple[Tensor, Tensor]:
            return self._segments[place].search(queries, min(k, counts[place]), masks[place])

        places = [place for place, count in enumerate(counts) if count]
        found = self._on_devices(search, places)
        if len(found) == 1:
            return found[0]
        size = self.items.rows
        keys = torch.cat([distances * size + rows for distances, rows in found], 1)
        nearest = keys.topk(k, largest=False, sorted=True).values
        return nearest // size, nearest % size

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        empty = torch.empty(0, dtype=torch.int64)
        if not len(queries):
            return WithinRadius(torch.zeros(1, dtype=torch.int64), empty, empty)
        found = self._on_devices(
            lambda place: self._segments[place].within(queries, radius), range(len(self._segments))
        )
        own, distances, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
        order = own.argsort(stable=True)
        return arrange_within(own[order], distances[order], rows[order], len(queries))

    def _on_devices(self, search: Callable[[int], T], places: Sequence[int]) -> list[T]:
        """Call a function for each segment, at the same time if there are several devices."""
        if len(places) < 2 or len(set(self._devices)) < 2:
            return [search(place) for place in places]
        with ThreadPoolExecutor(len(places)) as threads:
            return list(threads.map(search, places))


def find_devices(device: str | Sequence[str]) -> list[torch.device]:
    """Return the devices of an index.

    Raises:
        InvalidInputError: no device, an unknown name, or a CUDA device that is not there.
    """
    names = [device] if isinstance(device, str) else list(device)
    if not names:
        raise InvalidInputError("device=[]; name at least one device, such as cuda.")
    found = []
    for name in names:
        try:
            one = torch.device(name)
        except (RuntimeError, TypeError) as error:
            raise InvalidInputError(f"device={name!r} is no device of torch; write cuda, cuda:1 or cpu.") from error
        present = torch.cuda.device_count() if one.type == "cuda" else 1
        if not present:
            raise InvalidInputError(
                f"device={name!r} needs a CUDA device, and torch finds none here; choose kind=flat or mih, or "
                "device=cpu."
            )
        if one.type == "cuda" and (one.index or 0) >= present:
            raise InvalidInputError(f"device={name!r} is not here; there are cuda:0 to cuda:{present - 1}.")
        found.append(torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else one)
    return found
