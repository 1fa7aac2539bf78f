"""Base class of FAISS's binary indexes: codes of whole bytes, int32 distances and a file in FAISS's format."""

import os
from abc import abstractmethod
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from deephash.indexes.base import Index
from deephash.indexes.neighbour_lists import sort_nearest
from deephash.io.files import reading
from deephash.validation import InvalidInputError


class FaissBinary(Index):
    """A FAISS index of packed codes; padding bits are 0 in codes and queries, and add no distance.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        saved: file that FAISS wrote; None builds the index.
    """

    takes_changes = True
    trial = "faiss"
    engine_file: str | None = "index.faiss"
    faiss_class: ClassVar[str]
    """Name of FAISS's class, which a saved file must contain."""

    def __init__(self, codes: Tensor, bits: int, saved: Path | None = None) -> None:
        import faiss

        super().__init__(codes, bits)
        limit_forked_threads()
        if saved is None:
            self._build()
            return
        with reading(saved, "an index of FAISS", "restore it or build it again"):
            self._faiss: Any = faiss.read_index_binary(str(saved))
        held = (type(self._faiss).__name__, self._faiss.ntotal, self._faiss.d)
        if held != (self.faiss_class, self.size, self._faiss_bits):
            raise InvalidInputError(
                f"{saved} contains {held[0]} of {held[1]} codes of {held[2]} bits; expected {self.faiss_class} of "
                f"{self.size} codes of {self._faiss_bits} bits: restore it or build it again."
            )
        self._set_up()

    def _build(self) -> None:
        import faiss

        self._faiss = self._create(faiss)
        array = self.codes.numpy()
        if not self._faiss.is_trained:
            self._faiss.train(array)
        self._faiss.add(array)
        self._set_up()

    def _extend(self, first: int) -> None:
        self._faiss.add(self.codes.numpy()[first:])

    def _set_up(self) -> None:
        """Set what FAISS does not save."""

    @property
    def _faiss_bits(self) -> int:
        """Code length of FAISS, which only supports whole bytes."""
        return 8 * self.codes.shape[1]

    @abstractmethod
    def _create(self, faiss: Any) -> Any:
        """Return an empty index; `faiss` is the imported module."""

    def _write(self, path: Path) -> None:
        import faiss

        # FAISS's own file writer reports no error if the last bytes do not fit on a full disk.
        package: Any = faiss  # FAISS's type stubs lack the writer.
        with path.open("wb") as file:
            faiss.write_index_binary(self._faiss, package.PyCallbackIOWriter(file.write, 1 << 20))

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        distances, ids = self._faiss.search(queries.numpy(), k)
        return sort_nearest(torch.from_numpy(distances), torch.from_numpy(ids), self.bits + 1)


@cache
def limit_forked_threads() -> None:
    """Let forked processes search with one thread.

    Threads of OpenMP do not survive a fork. A child of a process in which FAISS has searched with several threads would
    wait for them forever.
    """
    import faiss

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(faiss.omp_set_num_threads, 1))
