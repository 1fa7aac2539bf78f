"""Rows of names: a sorted array of the first names, and a dictionary of those that were added later."""

from copy import copy
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deephash.validation import InvalidInputError


class SortedNames:
    """Find the latest row of each name; a sorted array takes less memory than a dictionary of millions of names.

    Args:
        names: names of rows 0 to n - 1, int64 or strings (n,).

    Raises:
        InvalidInputError: a name that occurs twice.
    """

    def __init__(self, names: NDArray[Any]) -> None:
        self._order = np.argsort(names, kind="stable")
        self._sorted = names[self._order]
        repeated = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if len(repeated):
            raise InvalidInputError(
                f"several items of the index are named {self._sorted[repeated].tolist()[0]!r}; build it with distinct "
                "names to select or change items by name."
            )
        self._later: dict[Any, int] = {}

    def copy(self) -> "SortedNames":
        """Return a copy that later changes of this one leave as it is; the sorted names are shared."""
        copied = copy(self)
        copied._later = dict(self._later)
        return copied

    def extend(self, names: NDArray[Any], first: int) -> None:
        """Add the names of rows from `first` on; they replace earlier rows of the same names."""
        self._later.update(zip(names.tolist(), range(first, first + len(names)), strict=True))

    def find(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows of names (n,); -1 for a name that no row has."""
        places = np.searchsorted(self._sorted, names).clip(max=len(self._sorted) - 1)
        rows = np.where(self._sorted[places] == names, self._order[places], -1)
        if self._later:
            later = np.fromiter(map(self._later.get, names.tolist(), repeat(-1)), np.int64, len(names))
            rows = np.where(later >= 0, later, rows)
        return rows

    def renumber(self, new_rows: NDArray[np.int64]) -> None:
        """Give rows their new numbers (old rows,), -1 for rows that are dropped; at least one must remain."""
        rows = new_rows[self._order]
        names, rows = self._sorted[rows >= 0], rows[rows >= 0]
        if self._later:
            later = new_rows[np.fromiter(self._later.values(), np.int64, len(self._later))]
            words = np.array(list(self._later), np.int64 if names.dtype.kind == "i" else np.str_)[later >= 0]
            names, rows = np.concatenate([names, words]), np.concatenate([rows, later[later >= 0]])
            order = np.argsort(names, kind="stable")  # Takes linear time for the sorted names.
            names, rows = names[order], rows[order]
        self._sorted, self._order, self._later = names, rows, {}
