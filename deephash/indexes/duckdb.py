"""DuckDB: a table of codes, scanned by SQL; exact."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index, WithinRadius
from deephash.indexes.engine_package import engine_package
from deephash.io.files import reading

if TYPE_CHECKING:
    import polars


def code_words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Packed bytes (n, B) as words uint64 (n, ⌈B/8⌉), the last padded with zeros."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view("<u8")


def quoted(path: Path) -> str:
    """A path as a word of SQL: what a statement attaches cannot be a parameter."""
    return "'" + str(path).replace("'", "''") + "'"


@contextmanager
def parquet_of(columns: "polars.DataFrame | None") -> Iterator[Path | None]:
    """Columns in a Parquet file, which DuckDB reads without further packages; None for none."""
    if columns is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="deephash-duckdb-") as folder:
        columns.write_parquet(Path(folder) / "columns.parquet")
        yield Path(folder) / "columns.parquet"


@final
class DuckDB(Index):
    """Keeps codes in a table `codes`: `id`, 64 bits to each of the columns `w0`, `w1`, ..., and then further columns.

    For codes that lie beside other columns in DuckDB: the saved file is a database like any other, to filter and to
    join with. A query is a scan in SQL, `bit_count(xor(w0, ?))`, some ten times the time of `Flat`.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        saved: the database that `save` wrote, opened to read alone; None makes one in memory.
        columns: what the table keeps beside them, (N, any): the items' `name`, and columns of the user's.

    Raises:
        InvalidInputError: the package is not installed, or no database of that table.
    """

    trial = "duckdb"
    engine_file: str | None = "index.duckdb"

    keeps_columns = True

    def __init__(
        self, codes: Tensor, bits: int, saved: Path | None = None, columns: "polars.DataFrame | None" = None
    ) -> None:
        super().__init__(codes, bits)
        self._package = engine_package("duckdb", "duckdb")
        self._words = -(-self.codes.shape[1] // 8)
        words = [f"w{place}" for place in range(self._words)]
        self._distance = " + ".join(f"bit_count(xor({word}, ?::UBIGINT))::INTEGER" for word in words)
        self._connection = self._package.connect()
        self._database = "memory" if saved is None else "saved"
        if saved is None:
            arrays = {"id": np.arange(self.size), **dict(zip(words, code_words(self.codes.numpy()).T, strict=True))}
            given = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            self._connection.register("given", given)
            with parquet_of(columns) as beside:
                joined = "" if beside is None else f" POSITIONAL JOIN read_parquet({quoted(beside)})"
                self._connection.execute(f"CREATE TABLE codes AS SELECT * FROM given{joined}")
            self._connection.unregister("given")
            return
        with reading(saved, "a table of codes", "restore it or build it again"):
            self._connection.execute(f"ATTACH {quoted(saved)} AS saved (READ_ONLY)")
            # A view of that name could read other files.
            tables = "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'saved' AND table_name = 'codes'"
            if self._connection.execute(tables).fetchone() != (1,):
                raise ValueError("it holds no table of that name")
            (stored,) = self._connection.execute(f"SELECT count({words[-1]}) FROM saved.codes").fetchone()
            if stored != self.size:
                raise ValueError(f"it holds {stored} codes; expected {self.size}")

    def _write(self, path: Path) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"ATTACH {quoted(path)} AS written")
            cursor.execute(f"COPY FROM DATABASE {self._database} TO written")
            cursor.execute("DETACH written")

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        found = self._rows(
            f"SELECT {self._distance} AS distance, id FROM {self._database}.codes ORDER BY distance, id LIMIT ?",
            queries,
            k,
        )
        distances, ids = (np.stack([rows[name] for rows in found]) for name in ("distance", "id"))
        return torch.from_numpy(distances.astype(np.int64)), torch.from_numpy(ids.astype(np.int64))

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        found = self._rows(
            f"SELECT * FROM (SELECT {self._distance} AS distance, id FROM {self._database}.codes) WHERE distance <= ? "
            "ORDER BY distance, id",
            queries,
            radius,
        )
        counts = np.array([len(rows["id"]) for rows in found], np.int64)
        distances, ids = (
            np.concatenate([np.empty(0, np.int64), *(rows[name] for rows in found)]) for name in ("distance", "id")
        )
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return WithinRadius(*(torch.from_numpy(array.astype(np.int64)) for array in (offsets, distances, ids)))

    def _rows(self, statement: str, queries: Tensor, last: int) -> list[dict[str, NDArray[Any]]]:
        """What a statement gives for each query's words and one further parameter."""
        with self._connection.cursor() as cursor:  # One a search, so that threads may search side by side.
            return [
                cursor.execute(statement, [*map(int, words), last]).fetchnumpy()
                for words in code_words(queries.numpy())
            ]
