"""Parts of a data set as blocks of rows for a Lightning loop."""

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from deephash.data.file_rows import FileRows
from deephash.data.items import Part
from deephash.data.prefetch_loader import build_loader, read_batch
from deephash.data.streamed_images import BLOCK_IMAGES, PixelRows

BLOCK_ROWS = 16_384


class PartBlocks(Dataset[dict[str, Any]]):
    """One process's share of a part, in blocks of consecutive rows.

    Unlike those of a distributed sampler, shares are not padded to equal length: a repeated query would count twice.

    Args:
        part: the items.
        rows: number of rows per block; of images in files at most 256.
        rank: rank of this process.
        processes: number of processes that share the part.
    """

    def __init__(self, part: Part, rows: int = BLOCK_ROWS, rank: int = 0, processes: int = 1) -> None:
        first, last = len(part) * rank // processes, len(part) * (rank + 1) // processes
        rows = min(rows, BLOCK_IMAGES) if isinstance(part.features, PixelRows) else rows
        self._part = part
        self._bounds = [(start, min(start + rows, last)) for start in range(first, last, rows)]

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, block: int) -> dict[str, Any]:
        """Return a block: positions in the part and ids in the data set, int64 (m,); features (m, d); any labels."""
        start, stop = self._bounds[block]
        part = self._part
        content = {"positions": torch.arange(start, stop), "ids": part.ids[start:stop]}
        content["features"] = read_batch(part.features, slice(start, stop))
        if self._part.labels is not None:
            content["labels"] = self._part.labels[start:stop]
        return content


def build_block_loader(
    part: Part, rows: int = BLOCK_ROWS, rank: int = 0, processes: int = 1
) -> "DataLoader[dict[str, Any]]":
    """Return a loader over `PartBlocks`; images in files are decoded while the last block is used."""
    return build_loader(part, PartBlocks(part, rows, rank, processes))


def read_whole(part: Part) -> dict[str, Any]:
    """Return a whole part as one block for a fit; images in files are not read, since a fit decodes them in blocks."""
    content: dict[str, Any] = {"positions": torch.arange(len(part)), "ids": part.ids}
    content["features"] = part.features if isinstance(part.features, PixelRows) else part.in_memory().features
    if part.labels is not None:
        content["labels"] = part.labels
    return content


def move_block(content: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Move a block to a device; features in files stay there."""
    return {name: value if isinstance(value, FileRows) else value.to(device) for name, value in content.items()}


class OneBlock(Dataset[dict[str, Any]]):
    """A whole part as the only entry of a dataset.

    Args:
        part: the items.
    """

    def __init__(self, part: Part) -> None:
        self._part = part

    def __len__(self) -> int:
        return 1

    def __getitem__(self, block: int) -> dict[str, Any]:
        """Return positions, ids and features, and labels if there are any."""
        if block:
            raise IndexError(block)
        return read_whole(self._part)


def build_fit_loader(part: Part) -> "DataLoader[dict[str, Any]]":
    """Return a loader of a whole part as one block."""
    return DataLoader(OneBlock(part), batch_size=None, num_workers=0)
