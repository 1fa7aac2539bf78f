"""What FAISS's binary indexes have in common: whole bytes, int32 distances, a file of their own."""

import os
from abc import abstractmethod
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index, ordered_nearest
from deephash.io.files import reading
from deephash.validation import InvalidInputError


class FaissBinary(Index):
    """An index of FAISS's over packed codes; padding bits are 0 on both sides and add no distance.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        saved: the file that FAISS wrote; None builds the index.
    """

    trial = "faiss"
    engine_file: str | None = "index.faiss"
    faiss_class: ClassVar[str]
    """Name of FAISS's class, which a file must hold."""

    def __init__(self, codes: Tensor, bits: int, saved: Path | None = None) -> None:
        super().__init__(codes, bits)
        keep_forks_from_waiting()
        if saved is None:
            self._faiss = self._built(self.codes.numpy())
            return
        self._faiss = read_faiss(saved)
        held = (type(self._faiss).__name__, self._faiss.ntotal, self._faiss.d)
        if held != (self.faiss_class, self.size, self._faiss_bits):
            raise InvalidInputError(
                f"{saved} holds {held[0]} of {held[1]} codes of {held[2]} bits; expected {self.faiss_class} of "
                f"{self.size} of {self._faiss_bits}: restore it or build it again."
            )

    @property
    def _faiss_bits(self) -> int:
        """Bits that FAISS sees: those of whole bytes."""
        return 8 * self.codes.shape[1]

    @abstractmethod
    def _built(self, codes: NDArray[np.uint8]) -> Any:
        """FAISS's index with all codes in it."""

    def _write(self, path: Path) -> None:
        import faiss

        # FAISS's own files say nothing of what a full disk does not take of their last bytes.
        package: Any = faiss  # Its own types leave the writer out.
        with path.open("wb") as file:
            faiss.write_index_binary(self._faiss, package.PyCallbackIOWriter(file.write, 1 << 20))

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        distances, ids = self._faiss.search(queries.numpy(), k)
        return ordered_nearest(torch.from_numpy(distances), torch.from_numpy(ids), self.bits + 1)


@cache
def keep_forks_from_waiting() -> None:
    """Let forked processes search by one thread.

    Threads of OpenMP do not survive a fork: a child of a process in which FAISS has searched by several would wait for
    them for ever.
    """
    import faiss

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(faiss.omp_set_num_threads, 1))


def read_faiss(path: Path) -> Any:
    """FAISS's index in a file.

    Raises:
        InvalidInputError: a file that FAISS cannot read.
    """
    import faiss

    with reading(path, "an index of FAISS", "restore it or build it again"):
        return faiss.read_index_binary(str(path))
