"""FAISS's scan of all codes (IndexBinaryFlat): exact."""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from deephash.indexes.faiss_binary import FaissBinary
from deephash.indexes.neighbour_lists import WithinRadius, sort_within


@final
class FaissFlat(FaissBinary):
    """Scan that compares every query with every code, as `Flat` does, for services that already run FAISS.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        saved: file that FAISS wrote; None builds the index.
    """

    faiss_class = "IndexBinaryFlat"

    def _create(self, faiss: Any) -> Any:
        return faiss.IndexBinaryFlat(self._faiss_bits)

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        # FAISS returns distances below the radius, not equal to it.
        arrays = self._faiss.range_search(queries.numpy(), radius + 1)
        return sort_within(*(torch.from_numpy(array.astype(np.int64)) for array in arrays))
