"""Memory-mapped features; only the requested rows are in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from deephash.data.array_file import read_array
from deephash.data.file_rows import FileRows
from deephash.data.vectors import COMPONENTS, read_vector_layout
from deephash.validation import InvalidInputError

MAPPED_ENDINGS = (".npy", *COMPONENTS)
"""Endings of the files that can be mapped; other formats are compressed or stored by columns."""

BLOCK_BYTES = 1 << 22
"""Bytes per block; each block is read through a new map, so that the pages of the previous block are released."""


@final
@dataclass(frozen=True)
class RowFile:
    """A matrix file that is reopened for each block of rows.

    Args:
        path: a file with one of `MAPPED_ENDINGS`.
        state: size and modification time when it was first read.
    """

    path: Path
    state: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Record the current state of a file that `read_array` has read."""
        return cls(path.absolute(), _read_state(path))

    def map(self) -> np.ndarray:
        """Map the matrix into memory.

        Raises:
            InvalidInputError: the file was changed or removed since it was first read.
        """
        if not self.path.is_file() or _read_state(self.path) != self.state:
            raise InvalidInputError(f"{self.path} changed while it was in use; start again.")
        if self.path.suffix in COMPONENTS:
            # The first reading checked the dimensions of all vectors, which takes a pass through the whole file.
            vectors: np.ndarray = np.memmap(self.path, read_vector_layout(self.path)[0], mode="r")["vector"]
            return vectors
        return read_array(self.path)


def _read_state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@final
class MappedRows(FileRows):
    """Rows (n, d) of a matrix in a file. Indexing, `to` and `numpy.asarray` read them, as float32.

    Args:
        file: file of the matrix.
        shape: shape (N, d) of the matrix.
        rows: rows of the matrix, int64 (n,), in this order; None for all.
    """

    def __init__(self, file: RowFile, shape: tuple[int, int], rows: Tensor | None = None) -> None:
        super().__init__(shape, rows)
        self.file = file
        self._whole = shape

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Read all rows into memory and move them as `Tensor.to` does."""
        return self[:].to(*args, **kwargs)

    def _subset(self, rows: Tensor) -> "MappedRows":
        return MappedRows(self.file, self._whole, rows)

    def _read(self, rows: np.ndarray) -> Tensor:
        features = torch.empty(len(rows), self.shape[1], dtype=torch.float32)
        block = max(1, BLOCK_BYTES // (4 * self.shape[1]))
        for start in range(0, len(rows), block):
            selected = rows[start : start + block]
            first, last = selected[0], selected[-1]
            consecutive = len(selected) == last - first + 1 and bool((np.diff(selected) == 1).all())
            with np.errstate(over="ignore"):  # Values beyond float32 have already raised an error.
                array = self.file.map()
                values = array[first : last + 1] if consecutive else array[selected]
                features[start : start + len(selected)] = torch.from_numpy(
                    np.array(values, dtype=np.float32, order="C")
                )
        return features


def can_map(path: Path) -> bool:
    """Return whether single rows of a file can be read."""
    return path.suffix in MAPPED_ENDINGS
