"""LanceDB: a table of packed codes, searched by its Hamming distance; a scan, or inverted lists."""

import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

from deephash.indexes.base import NOT_FOUND, Index, ordered_nearest
from deephash.indexes.engine_package import engine_package
from deephash.io.files import reading
from deephash.validation import InvalidInputError, check_count

if TYPE_CHECKING:
    import polars

TABLE = "codes"
# Queries that LanceDB answers at a time.
BLOCK = 64
UNWRITTEN = re.compile(r"[.`\0]")
"""What a name of a column may not hold."""


def check_writable(columns: "polars.DataFrame | None") -> None:
    """Raise an error for columns that a database keeps, and LanceDB does not.

    Raises:
        InvalidInputError: naming the first by its name or type.
    """
    import polars

    for name, kind in {} if columns is None else columns.schema.items():
        if UNWRITTEN.search(name):
            raise InvalidInputError(
                f"columns have the name {name!r}; LanceDB takes none with points, backticks or zero bytes: rename it."
            )
        if kind in (polars.Int128, polars.UInt128):
            raise InvalidInputError(f"column {name!r} is of type {kind}, which LanceDB does not take: convert it.")


def linked(source: str, target: str) -> None:
    """A second name for a file, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@final
class LanceDB(Index):
    """Keeps codes in a table `codes`, with `id`, `code`, packed bytes of fixed size, and further columns.

    For codes that lie beside other columns in LanceDB; the saved folder is a database like any other. Each answer costs
    some milliseconds, however few codes there are.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        approximate: by inverted lists (IVF_FLAT); False scans.
        lists: number of lists; None leaves it to LanceDB.
        probes: lists that a query scans; more find more and take longer.
        saved: the folder that `save` wrote; None builds one, which is removed with the index.
        columns: what the table keeps beside them, (N, any): the items' `name`, and columns of the user's.

    Raises:
        InvalidInputError: the package is not installed, no table of codes, or a setting that is no whole number of at
            least 1, or columns that LanceDB does not take.
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
        package = engine_package("lancedb", "lancedb")
        self._folder = Path(tempfile.mkdtemp(prefix="deephash-lancedb-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        if saved is None:
            self._table = package.connect(self._folder).create_table(TABLE, self._rows(columns))
            if approximate:
                settings = {} if lists is None else {"num_partitions": min(lists, self.size)}
                index = engine_package("lancedb.index", "lancedb").IvfFlat(distance_type="hamming", **settings)
                self._table.create_index("code", config=index)
            return
        # Files of a table are never changed, so that further names keep them where the saved folder is replaced.
        shutil.copytree(saved, self._folder, copy_function=linked, dirs_exist_ok=True)
        with reading(saved, "a table of codes", "restore it or build it again"):
            self._table = package.connect(self._folder).open_table(TABLE)
            stored = self._table.count_rows()
            if stored != self.size:
                raise ValueError(f"it holds {stored} codes; expected {self.size}")
            ids = self._table.search().select(["id"]).limit(self.size).to_arrow()["id"].to_numpy()
            if not np.array_equal(np.sort(ids), np.arange(self.size)):
                raise ValueError("its ids are not those of the codes")

    def _rows(self, columns: "polars.DataFrame | None") -> object:
        arrow = engine_package("pyarrow", "lancedb")
        flat = arrow.array(self.codes.numpy().reshape(-1))
        packed = arrow.FixedSizeListArray.from_arrays(flat, self.codes.shape[1])
        check_writable(columns)
        further = {} if columns is None else dict(zip(columns.columns, columns.to_arrow().columns, strict=True))
        return arrow.table({"id": arrow.array(np.arange(self.size)), "code": packed, **further})

    def _write(self, path: Path) -> None:
        shutil.copytree(self._folder, path)

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        distances = torch.zeros(len(queries), k)
        ids = torch.full((len(queries), k), NOT_FOUND, dtype=torch.int64)
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK].numpy()
            asked = self._table.search(list(block), vector_column_name="code").distance_type("hamming").limit(k)
            asked = asked.nprobes(min(self.probes, self.size)) if self.approximate else asked.bypass_vector_index()
            wanted = ["id", "_distance", *(["query_index"] if len(block) > 1 else [])]
            found = asked.to_arrow().select(wanted)
            asking = found["query_index"].to_numpy() if len(block) > 1 else np.zeros(found.num_rows, np.int64)
            # A query's rows come together, in order: its first row's place tells the rank of each.
            order = np.argsort(asking, kind="stable")
            rank = np.arange(len(order)) - np.searchsorted(asking[order], asking[order])
            ids[start + asking[order], rank] = torch.from_numpy(found["id"].to_numpy()[order])
            distances[start + asking[order], rank] = torch.from_numpy(found["_distance"].to_numpy()[order])
        return ordered_nearest(distances, ids, self.bits + 1)
