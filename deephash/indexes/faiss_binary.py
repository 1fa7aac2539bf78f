"""What FAISS's binary indexes have in common: whole bytes, int32 distances, a file of their own."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index, ordered_nearest
from deephash.validation import InvalidInputError


class FaissBinary(Index):
    """An index of FAISS's over packed codes; padding bits are 0 on both sides and add no distance.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        saved: the file that FAISS wrote; None builds the index.
    """

    engine_file: str | None = "index.faiss"

    def __init__(self, codes: Tensor, bits: int, saved: Path | None = None) -> None:
        super().__init__(codes, bits)
        self._faiss = self._built(self.codes.numpy()) if saved is None else read_faiss(saved)

    @property
    def _faiss_bits(self) -> int:
        """Bits that FAISS sees: those of whole bytes."""
        return 8 * self.codes.shape[1]

    @abstractmethod
    def _built(self, codes: NDArray[np.uint8]) -> Any:
        """FAISS's index with all codes in it."""

    def _write(self, path: Path) -> None:
        import faiss

        faiss.write_index_binary(self._faiss, str(path))

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        distances, ids = self._faiss.search(queries.numpy(), k)
        return ordered_nearest(torch.from_numpy(distances), torch.from_numpy(ids), self.bits + 1)


def read_faiss(path: Path) -> Any:
    """FAISS's index in a file.

    Raises:
        InvalidInputError: a file that FAISS cannot read.
    """
    import faiss

    try:
        return faiss.read_index_binary(str(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"{path} is no index of FAISS ({reason}); restore it or build it again.") from error
