"""Rows of a table: a Parquet or CSV file, read a block at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.encoding.fingerprint import file_fingerprint
from deephash.encoding.rows import BadRow, Ids, RowBlock, RowSource, checked_block, plain_id, select_ids
from deephash.files import reading
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

ID = "id"
"""The column of ids, where there is one of this name and no other is named."""


class TableRows(RowSource):
    """The rows of a Parquet or CSV file.

    In a CSV file what is no number counts as missing, so that its row is set apart. So is a row without an id.

    Args:
        path: the file; its ending says which.
        features: columns: one of lists, or several of numbers; None takes all but the ids.
        ids: the column of ids, whole numbers or words; None takes `id` where there is one, or else rows' places.

    Raises:
        InvalidInputError: not such a file, no such column, or columns that are no numbers.
    """

    def __init__(self, path: Path, features: Sequence[str] | None = None, ids: str | None = None) -> None:
        import polars

        self.path = path
        schema = self._schema()
        for name in (*(features or ()), *([ids] if ids else ())):
            if name not in schema:
                raise InvalidInputError(f"{path} has no column {name!r}; it holds {', '.join(schema)}.")
        self.id_column = ids or (ID if ID in schema and ID not in (features or ()) else None)
        self.columns = list(features or (name for name in schema if name != self.id_column))
        self.lists = len(self.columns) == 1 and isinstance(schema[self.columns[0]], polars.List | polars.Array)
        if not self.columns:
            raise InvalidInputError(f"{path} holds {', '.join(schema) or 'nothing'}; no column is left to take.")
        for name in () if self.lists else self.columns:
            kind = schema[name]
            if not (kind.is_numeric() or kind in (polars.Boolean, polars.Null)):
                raise InvalidInputError(
                    f"column {name!r} of {path} is of type {kind}; several columns make features only where all are "
                    "numbers: name the ones to take with --features, and ids with --ids."
                )
        if self.id_column is not None:
            kind = schema[self.id_column]
            if not (kind.is_integer() or kind == polars.String):
                raise InvalidInputError(
                    f"ids in column {self.id_column!r} of {path} are of type {kind}; expected whole numbers or words."
                )
            self.named = kind == polars.String
        self.rows = self._count()

    @property
    def dimension(self) -> int | None:
        """Number of columns; None where lists of the first block tell."""
        return None if self.lists else len(self.columns)

    def fingerprint(self) -> dict[str, Any]:
        """The file's, and which columns of it."""
        return {**file_fingerprint(self.path), "features": self.columns, "ids": self.id_column}

    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Blocks of rows, lists of another length than the first row's set apart."""
        wanted = [*self.columns, *([self.id_column] if self.id_column else ())]
        with self._reading():
            if self.lists:
                self._length = self._first_length()
            first = start
            for frame in self._frames(wanted, start, rows):
                yield self._block(frame, first)
                first += frame.height

    def _block(self, frame: "polars.DataFrame", first: int) -> RowBlock:
        import polars

        places = np.arange(first, first + frame.height)
        ids: Ids = places
        bad: list[BadRow] = []
        good = np.ones(frame.height, bool)
        if self.id_column is not None:
            column = frame[self.id_column]
            good &= column.is_not_null().to_numpy()
            bad += [BadRow(int(places[row]), int(places[row]), "no id") for row in np.flatnonzero(~good)]
            ids = column.fill_null("").to_list() if self.named else column.fill_null(0).cast(polars.Int64).to_numpy()
        if self.lists:
            lengths = frame[self.columns[0]].cast(polars.List(polars.Float32)).list.len().fill_null(0).to_numpy()
            uneven = good & (lengths != self._length)
            bad += [
                BadRow(int(places[row]), plain_id(ids[row]), f"{lengths[row]} values, not {self._length}")
                for row in np.flatnonzero(uneven)
            ]
            good &= ~uneven
        kept = frame.filter(polars.Series(good)) if bad else frame
        if self.lists:
            flat = kept[self.columns[0]].cast(polars.List(polars.Float32)).explode(empty_as_null=False)
            values = flat.to_numpy().reshape(kept.height, self._length)
        else:
            values = kept.select(polars.col(self.columns).cast(polars.Float32)).to_numpy()
        block = checked_block(values, select_ids(ids, good), places[good], first + frame.height)
        return RowBlock(block.features, block.ids, sorted(bad + block.bad, key=lambda entry: entry.row), block.stop)

    def _schema(self) -> Mapping[str, Any]:
        """Types by column."""
        with self._reading():
            return self._scan().collect_schema()

    def _frames(self, columns: list[str], start: int, rows: int) -> Iterator["polars.DataFrame"]:
        """Frames of exactly `rows`, the last of fewer, from a row on."""
        return rebatched(
            self._typed().select(columns).slice(start).collect_batches(chunk_size=rows, maintain_order=True), rows
        )

    def _scan(self) -> "polars.LazyFrame":
        import polars

        if self.path.suffix == ".parquet":
            return polars.scan_parquet(self.path, glob=False)
        return polars.scan_csv(self.path, glob=False)

    def _typed(self) -> "polars.LazyFrame":
        """The table with features read as numbers, so that one word far down does not end the reading."""
        import polars

        if self.path.suffix == ".parquet":
            return self._scan()
        kinds: dict[str, Any] = dict.fromkeys(self.columns, polars.Float32)
        if self.id_column is not None:
            kinds[self.id_column] = polars.String if self.named else polars.Int64
        return polars.scan_csv(self.path, glob=False, schema_overrides=kinds, ignore_errors=True)

    def _count(self) -> int | None:
        if self.path.suffix != ".parquet":
            return None
        import polars

        return int(self._scan().select(polars.len()).collect().item())

    def _first_length(self) -> int:
        """Length of the first list that is not empty."""
        import polars

        column = polars.col(self.columns[0]).cast(polars.List(polars.Float32))
        lengths = self._scan().select(column.list.len()).filter(polars.first() > 0).head(1).collect()
        if lengths.is_empty():
            raise InvalidInputError(f"column {self.columns[0]!r} of {self.path} holds no list with a value in it.")
        return int(lengths.item())

    def _reading(self) -> AbstractContextManager[None]:
        """Turns what the decoder raises of a damaged file, its panics included, into one line."""
        return reading(self.path, f"{self.path.suffix} data", "write it again")


def rebatched(batches: Iterable["polars.DataFrame"], rows: int) -> Iterator["polars.DataFrame"]:
    """The rows of frames of any length in frames of exactly `rows`, the last of fewer."""
    import polars

    held: list[Any] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.height
        while count >= rows:
            whole = polars.concat(held)
            yield whole.head(rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield polars.concat(held)
