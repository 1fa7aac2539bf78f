"""FAISS's scan of all codes (IndexBinaryFlat): exact."""

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import WithinRadius, ordered_within
from deephash.indexes.faiss_binary import FaissBinary


@final
class FaissFlat(FaissBinary):
    """Compares every query with every code, as `Flat` does; where FAISS runs already.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        saved: the file that FAISS wrote; None builds the index.
    """

    faiss_class = "IndexBinaryFlat"

    def _built(self, codes: NDArray[np.uint8]) -> Any:
        import faiss

        index = faiss.IndexBinaryFlat(self._faiss_bits)
        index.add(codes)
        return index

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        # FAISS takes what lies below the radius.
        offsets, distances, ids = self._faiss.range_search(queries.numpy(), radius + 1)
        found = (torch.from_numpy(array.astype(np.int64)) for array in (offsets, distances, ids))
        return ordered_within(*found)
