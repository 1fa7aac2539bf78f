"""The items of an index in rows: codes, permanent ids, names, further columns, and which rows are removed.

An item gets the next id when it is added. Ids ascend with the rows, are never reused, and stay when removed rows are
dropped. An update gives its item a new id. Names are permanent. Items of an index without names are called by their
ids.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deephash.indexes.growing_array import GrowingRows
from deephash.indexes.name_lookup import SortedNames
from deephash.io.item_names import as_names
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

ADD, REMOVE, UPDATE = "add", "remove", "update"
MAX_NAME = 1024
"""Maximal number of characters of an added name; an array of words gives each the room of the longest."""
ROW = "_row"
"""Column of row numbers in the table that an expression selects from."""


@dataclass(frozen=True)
class Change:
    """A checked change of the items of an index.

    Args:
        operation: ADD, REMOVE or UPDATE.
        codes: packed codes uint8 (n, ⌈b/8⌉); None for a removal.
        names: names of the n items, int64 or strings; None if items without names are added.
        columns: further columns of the n items; None for a removal or an index without columns.
    """

    operation: str
    codes: NDArray[np.uint8] | None = None
    names: NDArray[Any] | None = None
    columns: "polars.DataFrame | None" = None

    def __len__(self) -> int:
        given = self.codes if self.names is None else self.names
        return 0 if given is None else len(given)


class Items:
    """The items of an index.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
    """

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self._codes = GrowingRows(codes)
        self._names: GrowingRows | None = None
        self._ids: GrowingRows | None = None  # None: the ids are the rows.
        self._alive: GrowingRows | None = None  # None: no row is removed.
        self._lookup: SortedNames | None = None
        self.columns: polars.DataFrame | None = None
        self.next_id = len(codes)
        self.live = len(codes)

    @property
    def rows(self) -> int:
        """Number of rows, including removed ones."""
        return len(self._codes)

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Codes of all rows, including removed ones."""
        codes: NDArray[np.uint8] = self._codes.values
        return codes

    @property
    def has_rows_as_ids(self) -> bool:
        """Whether the id of each item is its row."""
        return self._ids is None

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of all rows, ascending, including removed ones."""
        return np.arange(self.rows) if self._ids is None else self._ids.values

    @property
    def names(self) -> NDArray[Any] | None:
        """Names of all rows, including removed ones; None for an index without names."""
        return None if self._names is None else self._names.values

    @property
    def alive(self) -> NDArray[np.bool_] | None:
        """Whether each row is an item, bool (rows,); None if no row is removed."""
        return None if self._alive is None else self._alive.values

    def set_names(self, names: NDArray[Any] | None) -> None:
        """Name all rows."""
        self._names = None if names is None else GrowingRows(names)
        self._lookup = None

    def set_ids(self, ids: NDArray[np.int64], next_id: int) -> None:
        """Set the ids of all rows, ascending, and the id of the next item.

        Raises:
            InvalidInputError: ids that are not ascending numbers from 0 below the next id.
        """
        if len(ids) != self.rows or (np.diff(ids) <= 0).any() or not 0 <= ids[0] <= ids[-1] < next_id:
            raise InvalidInputError("the ids of the items do not ascend from 0 to the next id; restore the index.")
        self._ids = GrowingRows(ids)
        self.next_id = next_id

    def freeze(self) -> "Items":
        """Return a copy that later changes of these items leave as it is; most memory is shared."""
        frozen = Items(self.codes)
        for name in ("_names", "_ids"):
            held = getattr(self, name)
            setattr(frozen, name, None if held is None else GrowingRows(held.values))
        frozen._alive = None if self._alive is None else GrowingRows(self._alive.values.copy())
        frozen._lookup = None if self._lookup is None else self._lookup.copy()
        frozen.columns, frozen.next_id, frozen.live = self.columns, self.next_id, self.live
        return frozen

    def live_rows(self) -> NDArray[np.int64]:
        """Return the rows that are not removed."""
        return np.arange(self.rows) if self.alive is None else np.flatnonzero(self.alive)

    def ids_of(self, rows: NDArray[np.int64], *, complete: bool = False) -> NDArray[np.int64]:
        """Return the ids of rows of any shape; negative rows stay, and `complete` tells that there are none."""
        if self._ids is None:
            return rows
        ids: NDArray[np.int64] = self._ids.values.take(rows)
        # To look for negative rows takes several times as long as to take the ids of a few.
        return ids if complete else np.where(rows < 0, rows, ids)

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of ids of any shape; -1 for an unknown id."""
        if self._ids is None:
            rows = np.where((ids >= 0) & (ids < self.rows), ids, -1)
        else:
            held = self._ids.values
            rows = np.searchsorted(held, ids).clip(max=len(held) - 1)
            rows = np.where(held[rows] == ids, rows, -1)
        return rows if self.alive is None else np.where((rows >= 0) & self.alive[rows], rows, -1)

    def find(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows of names (or of ids, for an index without names); -1 for an unknown name.

        Raises:
            InvalidInputError: several items have the same name, or names of another type.
        """
        if self._names is None:
            if names.dtype.kind != "i":
                raise InvalidInputError("the index has no names; call its items by their ids, whole numbers.")
            return self.rows_of(names)
        self._check_kind(names)
        if self._lookup is None:
            self._lookup = SortedNames(self._names.values)
        rows = self._lookup.find(names)
        return rows if self.alive is None else np.where((rows >= 0) & self.alive[rows], rows, -1)

    def find_items(self, names: Any, what: str = "names") -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Convert a user's names, and return them with their rows.

        Raises:
            InvalidInputError: unknown names, given twice, or of another type.
        """
        converted = np.empty(0, np.int64) if is_empty(names) else as_names(names, what)
        if not len(converted):
            return converted, np.empty(0, np.int64)
        check_distinct(converted, what)
        rows = self.find(converted)
        if (rows < 0).any():
            missing = converted[rows < 0].tolist()
            raise InvalidInputError(
                f"{what} contain {missing[0]!r}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
                + " that the index does not contain; leave them out."
            )
        return converted, rows

    def check_add(self, codes: NDArray[np.uint8], names: Any, columns: Any) -> Change:
        """Check items to add.

        Raises:
            InvalidInputError: names for an index without names or none for one with names, names of another number or
                type, or names that are given twice or present already; columns that differ from those of the index.
        """
        if names is None and self._names is not None:
            raise InvalidInputError("the index has names; give names=, one for each code.")
        if names is not None and self._names is None:
            raise InvalidInputError(
                "the index has no names, and its items are called by their ids; leave names out, or build an index "
                "with names=."
            )
        if names is not None:
            names = as_names(names, "names", len(codes)) if len(codes) or not is_empty(names) else np.empty(0, np.int64)
            if len(names):
                check_distinct(names, "names")
                if names.dtype.kind == "U" and names.dtype.itemsize > 4 * MAX_NAME:
                    raise InvalidInputError(
                        f"names contain one of {names.dtype.itemsize // 4} characters; shorten it to {MAX_NAME}."
                    )
                known = self.find(names) >= 0
                if known.any():
                    raise InvalidInputError(
                        f"the index contains {names[known].tolist()[0]!r} already; update it, or remove it first."
                    )
        return Change(ADD, codes, names, self._check_columns(columns, len(codes)))

    def check_update(self, codes: NDArray[np.uint8], names: Any, columns: Any) -> Change:
        """Check new codes of items.

        Raises:
            InvalidInputError: an index without names, unknown names or given twice, or other columns.
        """
        if self._names is None:
            raise InvalidInputError("the index has no names to update; remove items by their ids, and add others.")
        found, _ = self.find_items(names)
        if len(found) != len(codes):
            raise InvalidInputError(f"there are {len(found)} names and {len(codes)} codes; give one for each.")
        return Change(UPDATE, codes, found, self._check_columns(columns, len(codes)))

    def check_remove(self, names: Any) -> Change:
        """Check items to remove.

        Raises:
            InvalidInputError: unknown names or given twice.
        """
        return Change(REMOVE, names=self.find_items(names)[0])

    def append(self, codes: NDArray[np.uint8], names: NDArray[Any] | None, columns: "polars.DataFrame | None") -> int:
        """Append checked items, and return their first row."""
        first, count = self.rows, len(codes)
        self._codes.append(codes)
        if self._ids is not None:
            self._ids.append(np.arange(self.next_id, self.next_id + count))
        if self._alive is not None:
            self._alive.append(np.ones(count, bool))
        if self._names is not None and names is not None and count:
            self._names.append(names)
            if self._lookup is not None:
                self._lookup.extend(names, first)
        if self.columns is not None and columns is not None:
            self.columns = self.columns.vstack(columns)
        self.next_id += count
        self.live += count
        return first

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Mark rows, which are items, as removed."""
        if not len(rows):
            return
        if self._alive is None:
            self._alive = GrowingRows(np.ones(self.rows, bool))
        self._alive.values[rows] = False
        self.live -= len(rows)

    def compact(self) -> NDArray[np.int64] | None:
        """Drop removed rows; ids and names stay. At least one item must remain.

        Returns:
            The new rows of all rows (rows,), -1 for removed ones; None if no row is removed.
        """
        if self._alive is None:
            return None
        kept = self.live_rows()
        new_rows = np.where(self._alive.values, np.cumsum(self._alive.values) - 1, -1)
        if self._ids is None:
            self._ids = GrowingRows(np.arange(self.rows))
        for part in (self._codes, self._ids, self._names):
            if part is not None:
                part.keep(kept)
        if self.columns is not None:
            self.columns = self.columns[kept].rechunk()
        if self._lookup is not None:
            self._lookup.renumber(new_rows)
        self._alive = None
        return new_rows

    def table(self, columns: "list[str] | None" = None) -> "polars.DataFrame":
        """Return a table of all rows: `id`, `name` and the further columns, or only some of them, with row numbers."""
        import polars

        wanted = set(("id", "name") if columns is None else columns)
        named = {} if self.names is None or "name" not in wanted else {"name": self.names.tolist()}
        own = polars.DataFrame({ROW: np.arange(self.rows), **({"id": self.ids} if "id" in wanted else {}), **named})
        return own if self.columns is None else own.hstack(self.columns)

    def _check_kind(self, names: NDArray[Any]) -> None:
        held = self.names
        if held is not None and len(names) and names.dtype.kind != held.dtype.kind:
            kinds = {"i": "whole numbers", "U": "words"}
            raise InvalidInputError(
                f"the names of the index are {kinds[held.dtype.kind]}, and these are {kinds[names.dtype.kind]}; give "
                "names of the same type."
            )

    def _check_columns(self, columns: Any, size: int) -> "polars.DataFrame | None":
        """Convert further columns to those of the index."""
        from deephash.indexes.columns import as_columns, match_columns

        if self.columns is None:
            if columns is not None:
                raise InvalidInputError("the index has no columns; leave columns out, or build an index with columns=.")
            return None
        if columns is None:
            raise InvalidInputError(
                f"the index has the columns {', '.join(self.columns.columns)}; give columns= with them."
            )
        return match_columns(as_columns(columns, size, self.columns.schema), self.columns.schema)


def is_empty(values: Any) -> bool:
    """Return whether a list, tuple or array has no elements; NumPy gives an empty list the dtype of floats."""
    return isinstance(values, list | tuple | np.ndarray) and len(values) == 0


def check_distinct(names: NDArray[Any], what: str) -> None:
    """Raise an error if a name is given twice."""
    # A set of a few thousand names takes less time than a sort.
    if len(set(names.tolist())) < len(names):
        found, counts = np.unique(names, return_counts=True)
        raise InvalidInputError(f"{what} contain {found[counts > 1].tolist()[0]!r} twice; give each once.")
