"""LanceDB: a table of packed codes, searched by its Hamming distance; a scan, or inverted lists."""

import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index
from deephash.indexes.engine_package import import_engine
from deephash.indexes.neighbour_lists import arrange_nearest
from deephash.indexes.row_filter import Where, filtering
from deephash.io.files import reading
from deephash.validation import InvalidInputError, check_count

if TYPE_CHECKING:
    import polars

TABLE = "codes"
# Queries that LanceDB answers at a time.
BLOCK = 64
FORBIDDEN = re.compile(r"[.`\0]")
"""Characters that LanceDB does not accept in the name of a column."""


def check_writable(columns: "polars.DataFrame | None") -> None:
    """Raise an error if LanceDB does not accept the name or the type of a column."""
    import polars

    for name, kind in {} if columns is None else columns.schema.items():
        if FORBIDDEN.search(name):
            raise InvalidInputError(
                f"columns have the name {name!r}; LanceDB accepts no dots, backticks or zero bytes: rename it."
            )
        if kind in (polars.Int128, polars.UInt128):
            raise InvalidInputError(f"column {name!r} is of type {kind}, which LanceDB does not accept: convert it.")


def arrow_table(ids: NDArray[Any], codes: NDArray[np.uint8], columns: "polars.DataFrame | None") -> Any:
    """Return the rows of a table of LanceDB, as a table of pyarrow: `id`, `code` and further columns.

    Args:
        ids: numbers or words (n,).
        codes: packed codes uint8 (n, B), stored as a list of fixed size.
        columns: further columns (n, any).

    Raises:
        InvalidInputError: LanceDB does not accept the columns.
    """
    arrow = import_engine("pyarrow", "lancedb")
    check_writable(columns)
    packed = arrow.FixedSizeListArray.from_arrays(arrow.array(codes.reshape(-1)), codes.shape[1])
    further = {} if columns is None else dict(zip(columns.columns, columns.to_arrow().columns, strict=True))
    return arrow.table({"id": arrow.array(ids), "code": packed, **further})


def link_or_copy(source: str, target: str) -> None:
    """Make a hard link to a file, or a copy if the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@final
class LanceDB(Index):
    """Index in a table `codes`: `id`, `code` (packed bytes of fixed size), and further columns.

    Use it for codes that are stored beside other columns in LanceDB. The saved folder is an ordinary database. Each
    search takes a few milliseconds, even with few codes.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        approximate: whether to use inverted lists (IVF_FLAT); False scans.
        lists: number of lists; None leaves it to LanceDB.
        probes: lists that a query scans; higher values find more and take longer.
        saved: folder that `save` wrote; None builds one, which is removed with the index.
        columns: columns to store beside the codes, (N, any): the items' `name`, and the user's columns.

    Raises:
        InvalidInputError: the package is not installed, the folder contains no table of codes, a setting is not a whole
            number of at least 1, or LanceDB does not accept the columns.
    """

    engine_file: str | None = "index.lancedb"
    keeps_columns = True

    def __init__(
        self,
        codes: Tensor,
        bits: int,
        approximate: bool = False,
        lists: int | None = None,
        probes: int = 20,
        saved: Path | None = None,
        columns: "polars.DataFrame | None" = None,
    ) -> None:
        super().__init__(codes, bits)
        self.approximate, self.exact = approximate, not approximate
        self.lists, self.probes = lists, probes
        check_count(probes, "probes")
        if lists is not None:
            check_count(lists, "lists")
        package = import_engine("lancedb", "lancedb")
        self._folder = Path(tempfile.mkdtemp(prefix="deephash-lancedb-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        if saved is None:
            self._table = package.connect(self._folder).create_table(
                TABLE, arrow_table(np.arange(self.size), self.codes.numpy(), columns)
            )
            if approximate:
                settings = {} if lists is None else {"num_partitions": min(lists, self.size)}
                index = import_engine("lancedb.index", "lancedb").IvfFlat(distance_type="hamming", **settings)
                self._table.create_index("code", config=index)
            return
        # LanceDB never changes the files of a table, so links keep them when the saved folder is replaced.
        shutil.copytree(saved, self._folder, copy_function=link_or_copy, dirs_exist_ok=True)
        with reading(saved, "a table of codes", "restore it or build it again"):
            self._table = package.connect(self._folder).open_table(TABLE)
            stored = self._table.count_rows()
            if stored != self.size:
                raise ValueError(f"it holds {stored} codes; expected {self.size}")
            ids = self._table.search().select(["id"]).limit(self.size).to_arrow()["id"].to_numpy()
            if not np.array_equal(np.sort(ids), np.arange(self.size)):
                raise ValueError("its ids are not those of the codes")

    def _write(self, path: Path) -> None:
        shutil.copytree(self._folder, path)

    def _filter_rows(self, where: Where) -> NDArray[np.bool_]:
        if not isinstance(where, str):
            return super()._filter_rows(where)
        selected = np.zeros(self.items.rows, bool)
        with filtering(where):
            found = self._table.search().where(where).select(["id"]).limit(self.size).to_arrow()
            selected[found["id"].to_numpy()] = True
        return selected

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        parts = []
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK].numpy()
            search = self._table.search(list(block), vector_column_name="code").distance_type("hamming").limit(k)
            search = search.nprobes(min(self.probes, self.size)) if self.approximate else search.bypass_vector_index()
            # LanceDB numbers the queries only if there are several.
            columns = ["_distance", "id", *(["query_index"] if len(block) > 1 else [])]
            distances, ids, *index = (column.to_numpy() for column in search.to_arrow().select(columns).columns)
            rows = index[0].astype(np.int64) if index else np.zeros(len(ids), np.int64)
            order = np.argsort(rows, kind="stable")
            parts.append((start + rows[order], distances[order], ids[order]))
        rows, distances, ids = (torch.from_numpy(np.concatenate(values)) for values in zip(*parts, strict=True))
        return arrange_nearest(rows, distances, ids, (len(queries), k), self.bits + 1)
