"""A table of codes in a database that the caller is connected to: create, put, delete, search."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.codes import as_codes
from deephash.indexes.columns import Reserved, as_columns
from deephash.io.item_names import as_names
from deephash.ranking.inputs import check_packed
from deephash.validation import InvalidInputError, check_bits, check_whole

if TYPE_CHECKING:
    import polars

RESERVED = Reserved(
    re.compile(r"id|code|distance|_.*", re.IGNORECASE), "id, code, distance and names that begin with _"
)
"""Column names that users cannot choose; `_` begins names of the engines' own columns."""
MAX_WORD_BYTES = 512
"""Largest id in UTF-8, the limit of OpenSearch; one for all, so that data can move between engines."""

NO_CODES = 0
"""Length of the codes in a table that contains none."""


class Match(NamedTuple):
    """An item that a search found.

    Args:
        id: the id that the item was stored with.
        distance: Hamming distance of its code from the query's.
    """

    id: int | str
    distance: int


@dataclass(frozen=True)
class Rows:
    """Checked rows of a table.

    Args:
        codes: packed codes uint8 (n, ⌈b/8⌉), contiguous.
        ids: distinct int64 or words (n,).
        columns: further columns (n, any), or None.
    """

    codes: NDArray[np.uint8]
    ids: NDArray[Any]
    columns: "polars.DataFrame | None"

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def has_words(self) -> bool:
        """Whether ids are words."""
        return self.ids.dtype.kind == "U"

    @property
    def kinds(self) -> "dict[str, polars.DataType]":
        """Types of the further columns, by name."""
        return {} if self.columns is None else dict(self.columns.schema)

    def split(self, size: int) -> "Iterator[Rows]":
        """Yield blocks of at most `size` rows; none if there are no rows."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield Rows(self.codes[part], self.ids[part], None if self.columns is None else self.columns[part])


class CodeTable(ABC):
    """Packed codes in a table, collection or index of one database engine, with ids and further columns.

    The object itself holds a connection and a name; rows are in the database alone. `create_table` and `open_table`
    choose the subclass of a connection. Subclasses implement the methods that begin with `_`, on checked arguments.
    Errors of the engine, such as a lost connection, are its own exceptions.

    Args:
        client: the engine's connection or client; it stays the caller's, who closes it.
        name: name of the table, collection or index.
        bits: code length b.
        approximate: whether a search uses the engine's own index of the codes; False scans.

    Raises:
        InvalidInputError: a name that the engine does not accept, or a code that is longer than it accepts.
    """

    engine: ClassVar[str]
    """Name of the engine, for messages."""
    packages: ClassVar[tuple[str, ...]]
    """Python packages whose clients the class takes."""
    name_pattern: ClassVar[re.Pattern[str]]
    name_rule: ClassVar[str]
    """What a name consists of, for a message."""
    column_pattern: ClassVar[re.Pattern[str]] = re.compile(r"[^\0]+")
    column_rule: ClassVar[str] = "a name without zero bytes"
    """What a name of a column consists of, for a message."""
    pads: ClassVar[bool] = True
    """Whether the engine stores whole bytes, so that the exact length of a code is not known from the table."""
    max_bits: ClassVar[int | None] = None
    """Longest code that the engine takes; None for all that deephash makes."""
    max_results: ClassVar[int | None] = None
    """Largest k of a search."""

    def __init__(self, client: Any, name: str, bits: int, *, approximate: bool = False) -> None:
        if not isinstance(name, str) or not self.name_pattern.fullmatch(name):
            raise InvalidInputError(f"name={name!r}; expected a name of {self.engine}: {self.name_rule}.")
        check_bits(bits)
        if self.max_bits is not None and bits > self.max_bits:
            raise InvalidInputError(
                f"bits={bits}; {self.engine} takes codes of at most {self.max_bits} bits: lower bits."
            )
        self.client, self.name, self.bits, self.approximate = client, name, bits, approximate

    def create(self, codes: Tensor | ArrayLike, ids: ArrayLike | None = None, columns: Any = None) -> Self:
        """Create the table and store codes; if storing them fails, the table is removed again.

        Args:
            codes: packed codes uint8 (n, ⌈b/8⌉), n from 0.
            ids: distinct int64 or words (n,); None numbers the items from 0.
            columns: columns to filter by or to return: a frame of polars or pandas, a table of pyarrow, or lists by
                name, with a row for each code.

        Raises:
            InvalidInputError: the table exists already, or codes, ids or columns that cannot be stored.
        """
        rows = self._check_rows(codes, ids, columns)
        if self._find_bits() is not None:
            raise InvalidInputError(
                f"{self.name} exists already in {self.engine}; choose another name, or open it with open_table."
            )
        self._create(rows)
        return self

    def put(self, codes: Tensor | ArrayLike, ids: ArrayLike, columns: Any = None) -> None:
        """Store codes under ids; items with these ids are replaced.

        Args:
            codes: packed codes uint8 (n, ⌈b/8⌉).
            ids: distinct ids (n,), of the type that the table was created with.
            columns: all columns of the table, with a row for each code.

        Raises:
            InvalidInputError: codes, ids or columns that cannot be stored.
        """
        self._put(self._check_rows(codes, ids, columns, empty=True))

    def delete(self, ids: ArrayLike) -> None:
        """Remove the items with these ids, (n,); ids that the table does not contain are ignored.

        Raises:
            InvalidInputError: ids that are neither whole numbers nor words.
        """
        self._delete(self._check_ids(ids, None))

    def search(self, queries: Tensor | ArrayLike, k: int = 10, where: Any = None) -> list[list[Match]]:
        """Find the k nearest items of each query, nearest first; ties are ordered by id.

        Among items tied at the k-th distance, the engine chooses.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉).
            k: number of items; fewer are found if fewer fulfil the filter, or in an approximate search.
            where: filter in the engine's own language; do not put text of others into it.

        Returns:
            A list of items for each query.

        Raises:
            InvalidInputError: codes of the wrong length, or a k that the engine does not accept.
        """
        packed = self._check_codes(queries, "query codes")
        check_whole(k, 1, "k", self.max_results)
        found = self._search(packed, int(k), where) if len(packed) else []
        # Qdrant lets numbers and words stand in one collection.
        return [sorted(items, key=lambda item: (item.distance, isinstance(item.id, str), item.id)) for items in found]

    def check_table(self) -> Self:
        """Raise an error unless the table exists and contains codes of this length.

        Raises:
            InvalidInputError: no such table, or codes of another length.
        """
        stored = self._find_bits()
        if stored is None:
            raise InvalidInputError(f"{self.name} does not exist in {self.engine}; create it with create_table.")
        if stored == NO_CODES:
            raise InvalidInputError(f"{self.name} in {self.engine} is not a table of codes; give the name of one.")
        if stored != (8 * -(-self.bits // 8) if self.pads else self.bits):
            raise InvalidInputError(
                f"{self.name} holds codes of {stored} bits, and bits={self.bits}; give bits={stored}."
            )
        return self

    def _check_rows(
        self, codes: Tensor | ArrayLike, ids: ArrayLike | None, columns: Any, *, empty: bool = False
    ) -> Rows:
        packed = self._check_codes(codes, "codes")
        size = len(packed)
        names = np.arange(size) if ids is None else self._check_ids(ids, size)
        values, counts = np.unique(names, return_counts=True)
        if len(values) < size:
            twice = values[counts > 1][0]
            raise InvalidInputError(f"ids contain {twice.item()!r} more than once; each item needs an id of its own.")
        table = None if columns is None else as_columns(columns, size, reserved=RESERVED, empty=empty)
        rows = Rows(packed, names, None if table is None or not table.width else table)
        self._check_storable(rows)
        return rows

    def _check_codes(self, codes: Tensor | ArrayLike, name: str) -> NDArray[np.uint8]:
        tensor = as_codes(codes, name)
        check_packed(tensor, self.bits, name)
        packed: NDArray[np.uint8] = tensor.cpu().contiguous().numpy()
        return packed

    def _check_ids(self, ids: ArrayLike, size: int | None) -> NDArray[Any]:
        if isinstance(ids, list | tuple) and not len(ids) and not size:
            return np.empty(0, np.int64)  # An empty list has no type.
        names = as_names(ids, "ids", size)
        if names.dtype.kind == "U":
            for word in names.tolist():
                if not 1 <= len(word.encode()) <= MAX_WORD_BYTES or "\0" in word:
                    raise InvalidInputError(
                        f"ids contain {word[:40]!r}; expected words of 1 to {MAX_WORD_BYTES} bytes without zero bytes."
                    )
        return names

    def _check_storable(self, rows: Rows) -> None:
        """Raise an error for ids or columns that this engine does not store."""
        for name in rows.kinds:
            if not self.column_pattern.fullmatch(name):
                raise InvalidInputError(f"columns have the name {name!r}; expected {self.column_rule}: rename it.")

    @abstractmethod
    def _find_bits(self) -> int | None:
        """Return the bits of the codes in the table, padding included; NO_CODES of another table; None without one."""

    @abstractmethod
    def _create(self, rows: Rows) -> None:
        """Create the table and store rows, or leave nothing behind."""

    @abstractmethod
    def _put(self, rows: Rows) -> None:
        """Store rows in place of those with the same ids."""

    @abstractmethod
    def _delete(self, ids: NDArray[Any]) -> None:
        """Remove rows."""

    @abstractmethod
    def _search(self, queries: NDArray[np.uint8], k: int, where: Any) -> list[list[Match]]:
        """Return the nearest items of each query, in any order."""


def json_columns(columns: "polars.DataFrame | None", size: int) -> list[dict[str, Any]]:
    """Return the values of columns as JSON, a dict for each of `size` rows; dates and times are ISO 8601 texts."""
    if columns is None:
        return [{} for _ in range(size)]
    return [
        {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}
        for row in columns.iter_rows(named=True)
    ]


def check_json_columns(columns: "polars.DataFrame | None") -> None:
    """Raise an error for values that JSON or an engine's whole numbers do not hold.

    Raises:
        InvalidInputError: NaN, infinity, or a whole number beyond int64.
    """
    import polars

    for column in [] if columns is None else columns.get_columns():
        name, kind, values = column.name, column.dtype, column.drop_nulls()
        if kind.is_float() and not values.is_finite().all():
            raise InvalidInputError(f"column {name!r} contains NaN or infinity, which JSON does not hold; use None.")
        if kind.is_integer() and values.cast(polars.Int64, strict=False).null_count():
            raise InvalidInputError(f"column {name!r} contains numbers beyond int64; convert it.")
