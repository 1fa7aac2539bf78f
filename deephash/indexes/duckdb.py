"""DuckDB: a table of codes, scanned by SQL; exact."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index
from deephash.indexes.engine_package import import_engine
from deephash.indexes.neighbour_lists import WithinRadius, arrange_nearest, arrange_within
from deephash.indexes.row_filter import Where, filtering
from deephash.io.files import reading

if TYPE_CHECKING:
    import polars


def code_words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Convert packed bytes (n, B) to words uint64 (n, ⌈B/8⌉), the last one padded with zeros."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view("<u8")


def quote(path: Path) -> str:
    """Quote a path as an SQL string; ATTACH accepts no parameters."""
    return "'" + str(path).replace("'", "''") + "'"


@contextmanager
def parquet_file(columns: "polars.DataFrame | None") -> Iterator[Path | None]:
    """Yield a temporary Parquet file of columns, which DuckDB reads without further packages; None for no columns."""
    if columns is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="deephash-duckdb-") as folder:
        columns.write_parquet(Path(folder) / "columns.parquet")
        yield Path(folder) / "columns.parquet"


@final
class DuckDB(Index):
    """Index in a table `codes`: `id`, words of 64 bits in columns `w0`, `w1`, ..., then further columns.

    Use it for codes that are stored with other columns in DuckDB. The saved file is an ordinary database, which SQL can
    filter and join. A query is a scan in SQL, `bit_count(xor(w0, ?))`, and takes about ten times the time of `Flat`.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        saved: database that `save` wrote, opened read-only; None builds one in memory.
        columns: columns to store beside the codes, (N, any): the items' `name`, and the user's columns.

    Raises:
        InvalidInputError: the package is not installed, or the database does not contain such a table.
    """

    trial = "duckdb"
    engine_file: str | None = "index.duckdb"
    keeps_columns = True

    def __init__(
        self, codes: Tensor, bits: int, saved: Path | None = None, columns: "polars.DataFrame | None" = None
    ) -> None:
        super().__init__(codes, bits)
        words = [f"w{place}" for place in range(-(-self.codes.shape[1] // 8))]
        self._distance = " + ".join(f"bit_count(xor({word}, ?::UBIGINT))::INTEGER" for word in words)
        self._connection = import_engine("duckdb", "duckdb").connect()
        self._database = "memory" if saved is None else "saved"
        if saved is None:
            arrays = {"id": np.arange(self.size), **dict(zip(words, code_words(self.codes.numpy()).T, strict=True))}
            self._connection.register("given", {name: np.ascontiguousarray(array) for name, array in arrays.items()})
            with parquet_file(columns) as beside:
                joined = "" if beside is None else f" POSITIONAL JOIN read_parquet({quote(beside)})"
                self._connection.execute(f"CREATE TABLE codes AS SELECT * FROM given{joined}")
            self._connection.unregister("given")
            return
        with reading(saved, "a table of codes", "restore it or build it again"):
            self._connection.execute(f"ATTACH {quote(saved)} AS saved (READ_ONLY)")
            # A view named `codes` could read other files.
            tables = "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'saved' AND table_name = 'codes'"
            if self._connection.execute(tables).fetchone() != (1,):
                raise ValueError("it holds no table of that name")
            (stored,) = self._connection.execute(f"SELECT count({words[-1]}) FROM saved.codes").fetchone()
            if stored != self.size:
                raise ValueError(f"it holds {stored} codes; expected {self.size}")

    def _write(self, path: Path) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"ATTACH {quote(path)} AS written")
            cursor.execute(f"COPY FROM DATABASE {self._database} TO written")
            cursor.execute("DETACH written")

    def _filter_rows(self, where: Where) -> NDArray[np.bool_]:
        if not isinstance(where, str):
            return super()._filter_rows(where)
        selected = np.zeros(self.items.rows, bool)
        with filtering(where), self._connection.cursor() as cursor:
            found = cursor.execute(f"SELECT id FROM {self._database}.codes WHERE ({where})").fetchnumpy()
            selected[found["id"]] = True
        return selected

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        neighbours = self._select("", "LIMIT ?", queries, k)
        return arrange_nearest(*neighbours, (len(queries), k), self.bits + 1)

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        return arrange_within(*self._select("WHERE distance <= ?", "", queries, radius), len(queries))

    def _select(self, condition: str, limit: str, queries: Tensor, value: int) -> tuple[Tensor, Tensor, Tensor]:
        """Run one statement for each query; return the query rows, distances and ids of the items found.

        Args:
            condition: SQL after the table of distances, or empty.
            limit: SQL after the order, or empty.
            queries: packed codes uint8 (q, ⌈b/8⌉).
            value: value of the `?` in `condition` or `limit`.
        """
        statement = (
            f"SELECT * FROM (SELECT {self._distance} AS distance, id FROM {self._database}.codes) {condition} "
            f"ORDER BY distance, id {limit}"
        )
        with self._connection.cursor() as cursor:  # One cursor per search, so that threads can search at the same time.
            found = [
                cursor.execute(statement, [*map(int, words), value]).fetchnumpy()
                for words in code_words(queries.numpy())
            ]
        empty = np.empty(0, np.int64)
        places = [np.full(len(part["id"]), place) for place, part in enumerate(found)]
        columns = (places, *([part[name] for part in found] for name in ("distance", "id")))
        rows, distances, ids = (torch.from_numpy(np.concatenate([empty, *parts]).astype(np.int64)) for parts in columns)
        return rows, distances, ids
