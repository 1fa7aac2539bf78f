"""Rows of tensors that are being computed, kept in files so that an interrupted computation continues."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from deephash.data.sealed_tensors import read_tensors, write_tensors
from deephash.io.progress import track
from deephash.validation import StorageError

SAVE_SECONDS = 5.0
"""Time after which computed rows are written; an interruption loses no more."""


class UnfinishedRows:
    """Rows that were computed from the first on; those of an earlier, interrupted computation are read.

    Each file holds consecutive rows with the key, their place and a checksum, and appears in one step. Files that do
    not continue the rows before them, or are damaged, are ignored.

    Args:
        folder: folder of the files, which is created when rows are first written; None keeps rows in memory only.
        key: digest of all inputs of the computation.
    """

    def __init__(self, folder: Path | None = None, key: str = "") -> None:
        self._folder = folder
        self._key = key
        self._blocks: list[dict[str, Tensor]] = []
        self._written = 0  # number of blocks in files
        self.rows = 0
        self._saved_at = time.monotonic()
        self._read()

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Append rows, tensors (m, ...) by name; they are written if the last ones are older than `SAVE_SECONDS`."""
        self._blocks.append(tensors)
        self.rows += count_rows(tensors)
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self._write()
            self._saved_at = time.monotonic()

    def join(self) -> dict[str, Tensor]:
        """Return all rows, tensors (n, ...) by name; empty if there are none."""
        names = self._blocks[0] if self._blocks else ()
        return {name: torch.cat([block[name] for block in self._blocks]) for name in names}

    def remove(self) -> None:
        """Remove the files; the rows in memory stay."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self) -> None:
        while self._folder is not None:
            try:
                block = read_tensors(self._find_file(self.rows), self._find_key(self.rows))
            except Exception:  # there is no such file, or it is damaged
                return
            self._blocks.append(block)
            self._written = len(self._blocks)
            self.rows += count_rows(block)

    def _write(self) -> None:
        blocks = self._blocks[self._written :]
        start = self.rows - sum(map(count_rows, blocks))
        joined = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
        if self._folder is not None:
            with suppress(StorageError):  # Rows that are not written are computed again after an interruption.
                write_tensors(self._find_file(start), self._find_key(start), joined)
        self._blocks[self._written :] = [joined]
        self._written = len(self._blocks)

    def _find_file(self, start: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{start:012d}.safetensors"

    def _find_key(self, start: int) -> str:
        return f"{self._key} from row {start}"


def count_rows(tensors: dict[str, Tensor]) -> int:
    """Return the number of rows of tensors (m, ...) by name."""
    return len(next(iter(tensors.values())))


def compute_rows(
    count: int, step: int, compute: Callable[[int, int], dict[str, Tensor]], computed: UnfinishedRows, description: str
) -> dict[str, Tensor]:
    """Compute rows in blocks, after those that are computed already, with a progress bar.

    Args:
        count: number of rows n.
        step: rows of a block.
        compute: function from the first row and the row after the last one to tensors (m, ...) by name.
        computed: rows that are computed already; the others are added.
        description: label of the progress bar.

    Returns:
        Tensors (n, ...) by name.
    """
    for start in track(range(computed.rows, count, step), description):
        computed.add(compute(start, min(start + step, count)))
    return computed.join()
