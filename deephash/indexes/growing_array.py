"""An array that grows at its end without a copy at each step."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class GrowingRows:
    """Rows of one dtype with spare room behind them, so that n appends copy O(n) rows in total.

    Views of earlier values stay valid: an append writes behind them or into a new array.

    Args:
        values: first rows (n, ...), shared until the first append.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._held = values
        self._length = len(values)

    def __len__(self) -> int:
        return self._length

    @property
    def values(self) -> NDArray[Any]:
        """All rows (n, ...), a view."""
        return self._held[: self._length]

    def append(self, more: NDArray[Any]) -> None:
        """Add rows of the same dtype; strings may be longer than before."""
        needed = self._length + len(more)
        dtype = np.promote_types(self._held.dtype, more.dtype)
        if needed > len(self._held) or dtype != self._held.dtype:
            room = np.empty((max(needed, self._length * 3 // 2, 64), *self._held.shape[1:]), dtype)
            room[: self._length] = self.values
            self._held = room
        self._held[self._length : needed] = more
        self._length = needed

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep only some rows."""
        self._held = self.values[rows]
        self._length = len(rows)
