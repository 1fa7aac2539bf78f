"""The base class of features that stay in files; only the requested rows are read."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


class FileRows(ABC):
    """Rows (n, d) that are read from files whenever they are indexed, as float32.

    Subclasses implement `_read` and `_subset`.

    Args:
        shape: shape (N, d) of all rows.
        rows: rows of those, int64 (n,), in this order; None for all.
    """

    ndim = 2
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, shape: tuple[int, int], rows: Tensor | None = None) -> None:
        self.shape = torch.Size((shape[0] if rows is None else len(rows), shape[1]))
        self._rows = rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:
        """Read rows: float32 (m, d) for a slice, int64 (m,) or bool (n,), or float32 (d,) for one row number."""
        places = self._find_places(key)
        return self._read(places) if places.ndim else self._read(places[None])[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read all rows into memory."""
        return self[:].numpy().astype(dtype or np.float32, copy=False)

    def select(self, rows: Tensor) -> Self:
        """Select rows by position int64 (m,), in this order, without reading them."""
        return self._subset(rows if self._rows is None else self._rows[rows])

    def _find_places(self, key: Any) -> np.ndarray:
        """Return the rows of the files that an index selects."""
        if isinstance(key, slice) and self._rows is None and key.step in (None, 1):
            start, stop, _ = key.indices(len(self))
            return np.arange(start, stop)
        places: np.ndarray = (torch.arange(len(self))[key] if self._rows is None else self._rows[key]).numpy()
        return places

    @abstractmethod
    def _read(self, rows: np.ndarray) -> Tensor:
        """Read rows of the files, int64 (m,), as float32 (m, d)."""

    @abstractmethod
    def _subset(self, rows: Tensor) -> Self:
        """Return these rows of the files, int64 (m,), without reading them."""


def select_rows(features: Any, rows: Tensor) -> Any:
    """Select rows of features or `Views` by position int64 (m,), without reading those in files."""
    return features.select(rows) if isinstance(features, FileRows) else features[rows]


def read_features(features: Any) -> Any:
    """Read features into memory if they are in files."""
    return features[:] if isinstance(features, FileRows) else features
