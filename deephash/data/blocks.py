"""Parts of a data set as blocks of rows for a Lightning loop."""

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from deephash.data.items import Part

BLOCK_ROWS = 16_384


class PartBlocks(Dataset[dict[str, Any]]):
    """One process's share of a part, in blocks of consecutive rows.

    Unlike those of a distributed sampler, shares are not padded to equal length: a repeated query would count twice.

    Args:
        part: the items.
        rows: number of rows per block.
        rank: rank of this process.
        processes: number of processes that share the part.
    """

    def __init__(self, part: Part, rows: int = BLOCK_ROWS, rank: int = 0, processes: int = 1) -> None:
        first, last = len(part) * rank // processes, len(part) * (rank + 1) // processes
        self._part = part
        self._bounds = [(start, min(start + rows, last)) for start in range(first, last, rows)]

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, block: int) -> dict[str, Any]:
        """Return a block: positions in the part and ids in the data set, int64 (m,); features (m, d); any labels."""
        start, stop = self._bounds[block]
        part = self._part
        content = {"positions": torch.arange(start, stop), "ids": part.ids[start:stop]}
        content["features"] = part.features[start:stop]
        if self._part.labels is not None:
            content["labels"] = self._part.labels[start:stop]
        return content


def build_block_loader(
    part: Part, rows: int = BLOCK_ROWS, rank: int = 0, processes: int = 1
) -> "DataLoader[dict[str, Any]]":
    """Return a loader over `PartBlocks`, without workers, as features are in memory."""
    return DataLoader(PartBlocks(part, rows, rank, processes), batch_size=None, num_workers=0)
