"""Rows of a table in a Parquet or CSV file, read block by block."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.code_files.csv_layout import CsvLayout, read_layout
from deephash.code_files.fingerprint import fingerprint_file
from deephash.code_files.rows import BadRow, Ids, RowBlock, RowSource, build_block, convert_id, select_ids
from deephash.data.stored_index import find_ids, find_index_columns, log_left_out
from deephash.io.files import reading
from deephash.io.item_names import check_whole_name
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

CSV = ".csv"


class TableRows(RowSource):
    """Rows of a Parquet or CSV file.

    A row with a missing value or without an id cannot be encoded. In a CSV file, a cell without a number counts as
    missing. Ids of a CSV file are whole numbers if each number is written in its shortest form, and otherwise strings:
    `00012` stays `00012`. The index that pandas stores beside the columns is left out, with a line in the log, unless
    `features` or `ids` names it.

    Args:
        path: the file, `.parquet` or `.csv`.
        features: one column of lists, or several columns of numbers; None uses all columns except the ids.
        ids: column of ids, whole numbers or strings; None uses `id`, in upper or lower case, if there is one, or else
            row numbers.
        header: whether the first line of a CSV file names its columns. None is like True, but an unclear line raises an
            error. Columns without names are named by their positions from 0.

    Raises:
        InvalidInputError: a damaged file, no such column, columns that are not numbers, ids too large for int64, or an
            unclear first line with `header=None`.
    """

    def __init__(
        self,
        path: Path,
        features: Sequence[str] | None = None,
        ids: str | None = None,
        header: bool | None = None,
    ) -> None:
        import polars

        self.path = path
        self.layout: CsvLayout | None = None
        self.words: Mapping[str, str | None] = {}
        if path.suffix == CSV:
            self.layout = read_layout(path, header)
        schema = self._schema()
        named = [*(features or ()), *([ids] if ids else ())]
        for name in named:
            if name not in schema:
                raise InvalidInputError(f"{path} has no column {name!r}; it holds {', '.join(schema)}.")
            if named.count(name) > 1:
                raise InvalidInputError(f"--features and --ids name column {name!r} of {path} twice; name it once.")
        self.id_column = ids or find_ids([name for name in schema if name not in named])
        index = [] if features else [name for name in self._index_columns(schema) if name != self.id_column]
        log_left_out(path, index, "use --features or --ids")
        self.columns = list(features or (name for name in schema if name != self.id_column and name not in index))
        single = schema[self.columns[0]] if len(self.columns) == 1 else None
        self.lists = isinstance(single, polars.List | polars.Array) and is_number_type(single.inner)
        if not self.columns:
            raise InvalidInputError(f"{path} holds {', '.join(schema) or 'nothing'}; no column is left for features.")
        for name in () if self.lists else self.columns:
            kind = schema[name]
            if not is_number_type(kind):
                problem = f"is of type {kind}" if self.layout is None else f"holds {self.words[name]!r}"
                raise InvalidInputError(
                    f"column {name!r} of {path} {problem}; features are columns of numbers, or one "
                    "column of lists: name the columns of features with --features, and the column of ids with --ids."
                )
        if self.id_column is not None:
            kind = schema[self.id_column]
            is_text = kind == polars.String or isinstance(kind, polars.Categorical | polars.Enum)
            if not (kind.is_integer() or is_text or self.layout is not None):
                raise InvalidInputError(
                    f"ids in column {self.id_column!r} of {path} are of type {kind}; expected whole numbers or words."
                )
            self.named = is_text if self.layout is None else self._holds_words(self.id_column)
            if kind in (polars.UInt64, polars.Int128, polars.UInt128) and self.layout is None:
                self._check_whole(self.id_column)
        self.rows = self._count()
        if self.rows == 0:
            raise InvalidInputError(f"{path} has no rows; expected at least one item.")

    @property
    def dimension(self) -> int | None:
        """Number of columns; None for lists until the first block is read."""
        return None if self.lists else len(self.columns)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the file, and the names of the columns."""
        return {**fingerprint_file(self.path), "features": self.columns, "ids": self.id_column}

    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Yield blocks of rows; lists that differ in length from the first become bad rows."""
        columns = [*self.columns, *([self.id_column] if self.id_column else ())]
        with self._reading():
            if self.lists:
                self._length = self._first_length()
            first = start
            for frame in self._frames(columns, start, rows):
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
            ids = (
                column.cast(polars.String).fill_null("").to_list()
                if self.named
                else column.fill_null(0).cast(polars.Int64).to_numpy()
            )
        if self.lists:
            lengths = frame[self.columns[0]].cast(polars.List(polars.Float32)).list.len().fill_null(0).to_numpy()
            uneven = good & (lengths != self._length)
            bad += [
                BadRow(int(places[row]), convert_id(ids[row]), f"{lengths[row]} values, not {self._length}")
                for row in np.flatnonzero(uneven)
            ]
            good &= ~uneven
        kept = frame.filter(polars.Series(good)) if bad else frame
        if self.lists:
            flat = kept[self.columns[0]].cast(polars.List(polars.Float32)).explode(empty_as_null=False)
            values = flat.to_numpy().reshape(kept.height, self._length)
        else:
            values = kept.select(polars.col(self.columns).cast(polars.Float32)).to_numpy()
        block = build_block(values, select_ids(ids, good), places[good], first + frame.height)
        return RowBlock(block.features, block.ids, sorted(bad + block.bad, key=lambda entry: entry.row), block.stop)

    def _schema(self) -> Mapping[str, Any]:
        """Return the type of each column; columns of a CSV file contain numbers or strings."""
        import polars

        with self._reading():
            if self.layout is None:
                return self._scan().collect_schema()
            self.words = self.layout.find_words(self.path)
            return {name: polars.Float32() if word is None else polars.String() for name, word in self.words.items()}

    def _index_columns(self, schema: Mapping[str, Any]) -> Sequence[str]:
        """Return the columns that are the index of a pandas table."""
        if self.layout is not None:
            return self.layout.index
        import polars

        with self._reading():
            return find_index_columns(schema, polars.read_parquet_metadata(self.path).get("pandas"))

    def _holds_words(self, name: str) -> bool:
        """Return whether a column of a CSV file contains values that are not whole numbers in their shortest form."""
        import polars

        column = polars.col(name)
        kept = (column.cast(polars.Int64, strict=False).cast(polars.String) == column).fill_null(value=False)
        with self._reading():
            texts = self._scan().select(kept | column.is_null())
            return any(not batch.to_series().all() for batch in texts.collect_batches())

    def _check_whole(self, name: str) -> None:
        """Raise an error if ids are too large for int64, before rows are encoded."""
        with self._reading():
            extremes = self._extremes(name)
        for extreme in extremes:
            check_whole_name(extreme or 0, f"ids in column {name!r} of {self.path}")

    def _extremes(self, name: str) -> tuple[int | None, int | None]:
        """Return the smallest and the largest value of a column."""
        import polars

        column = polars.col(name)
        return self._scan().select(column.min().alias("least"), column.max().alias("most")).collect().row(0)

    def _frames(self, columns: list[str], start: int, rows: int) -> Iterator["polars.DataFrame"]:
        """Yield frames of exactly `rows` rows from row `start` on; the last frame may have fewer."""
        return rebatch(
            self._scan_typed().select(columns).slice(start).collect_batches(chunk_size=rows, maintain_order=True), rows
        )

    def _scan(self) -> "polars.LazyFrame":
        """Return the lazy table; columns of a CSV file are text."""
        import polars

        if self.layout is None:
            return polars.scan_parquet(self.path, glob=False)
        return self.layout.scan(self.path)

    def _scan_typed(self) -> "polars.LazyFrame":
        """Return the lazy table; features of a CSV file are numbers, missing where a cell contains none."""
        import polars

        if self.layout is None:
            return self._scan()
        numbers = polars.col(self.columns).str.strip_chars().cast(polars.Float32, strict=False)
        ids = [] if self.id_column is None or self.named else [polars.col(self.id_column).cast(polars.Int64)]
        return self._scan().with_columns(numbers, *ids)

    def _count(self) -> int | None:
        if self.layout is not None:
            return None
        import polars

        return int(self._scan().select(polars.len()).collect().item())

    def _first_length(self) -> int:
        """Return the length of the first list that is not empty."""
        import polars

        column = polars.col(self.columns[0]).cast(polars.List(polars.Float32))
        lengths = self._scan().select(column.list.len()).filter(polars.first() > 0).head(1).collect()
        if lengths.is_empty():
            raise InvalidInputError(f"column {self.columns[0]!r} of {self.path} holds no list with a value in it.")
        return int(lengths.item())

    def _reading(self) -> AbstractContextManager[None]:
        """Turn errors of the decoder, including its panics, into one line."""
        return reading(self.path, f"{self.path.suffix} data", "write it again")


def is_number_type(kind: Any) -> bool:
    """Return whether the values of a type are numbers, booleans or missing."""
    import polars

    return bool(kind.is_numeric() or kind in (polars.Boolean, polars.Null))


def rebatch(batches: Iterable["polars.DataFrame"], rows: int) -> Iterator["polars.DataFrame"]:
    """Regroup the rows of frames into frames of exactly `rows`; the last frame may have fewer."""
    import polars

    held: list[Any] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.height
        while count >= rows:
            joined = polars.concat(held)
            yield joined.head(rows)
            held, count = [joined.slice(rows)], count - rows
    if count:
        yield polars.concat(held)
