"""LanceDB: a column of packed bytes of fixed size, searched with the distance type `hamming`.

Bytes are stored unchanged, so the first bit is the lowest of its byte.

Source: the documentation of LanceDB 0.40 (binary vectors: `hamming` by scan or IVF_FLAT alone).
"""

import re
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from deephash.indexes.engine_package import import_engine
from deephash.indexes.lancedb import arrow_table, check_writable
from deephash.integrations.databases.base import NO_CODES, CodeTable, Match, Rows
from deephash.validation import InvalidInputError, check_count

DELETED_AT_A_TIME = 1000
"""Number of ids in one condition."""


def id_condition(ids: NDArray[Any]) -> str:
    """Return a condition in LanceDB's SQL that selects ids (n,), n from 1."""
    quoted = ids.tolist() if ids.dtype.kind == "i" else ["'" + word.replace("'", "''") + "'" for word in ids.tolist()]
    return f"id IN ({', '.join(map(str, quoted))})"


@final
class LanceDBTable(CodeTable):
    """Table of `id`, `code` and further columns in LanceDB.

    Args:
        client: result of `lancedb.connect`.
        name: name of the table.
        bits: code length b.
        approximate: whether a search uses the inverted lists (IVF_FLAT) that `create` then builds; False scans.
        lists: number of lists; None leaves it to LanceDB.
        probes: lists that a search scans; higher values find more and take longer.
    """

    engine, packages = "LanceDB", ("lancedb",)
    name_pattern, name_rule = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{1,249}"), "up to 249 letters, digits, ., _ and -"

    def __init__(
        self,
        client: Any,
        name: str,
        bits: int,
        *,
        approximate: bool = False,
        lists: int | None = None,
        probes: int = 20,
    ) -> None:
        super().__init__(client, name, bits, approximate=approximate)
        check_count(probes, "probes")
        if lists is not None:
            check_count(lists, "lists")
        self.lists, self.probes = lists, probes

    def _open(self) -> Any:
        """Return the table, or None; it is opened for each call, so that changes of other processes are seen."""
        try:
            return self.client.open_table(self.name)
        except (ValueError, FileNotFoundError) as error:
            if "not found" not in str(error):
                raise
            return None

    def _find_bits(self) -> int | None:
        table = self._open()
        if table is None:
            return None
        if "code" not in table.schema.names or not hasattr(table.schema.field("code").type, "list_size"):
            return NO_CODES
        return 8 * int(table.schema.field("code").type.list_size)

    def _check_storable(self, rows: Rows) -> None:
        check_writable(rows.columns)

    def _create(self, rows: Rows) -> None:
        if self.approximate and not len(rows):
            raise InvalidInputError(
                "there are no codes, and LanceDB builds its lists from them; give codes, or set approximate=False."
            )
        settings = {} if self.lists is None else {"num_partitions": min(self.lists, len(rows))}
        index = import_engine("lancedb.index", "lancedb").IvfFlat(distance_type="hamming", **settings)
        table = self.client.create_table(self.name, arrow_table(rows.ids, rows.codes, rows.columns))
        if self.approximate:
            try:
                table.create_index("code", config=index)
            except BaseException:
                self.client.drop_table(self.name)
                raise

    def _put(self, rows: Rows) -> None:
        table = self._open()
        self._check_kind(table, rows.ids)
        stored, names = set(table.schema.names) - {"id", "code"}, set(rows.kinds)
        if stored != names:
            raise InvalidInputError(
                f"columns are {', '.join(sorted(names)) or 'none'}; expected those of the table {self.name}: "
                f"{', '.join(sorted(stored)) or 'none'}."
            )
        # Columns without values have no type of their own, and numbers of Python are wider than those of a frame.
        given = arrow_table(rows.ids, rows.codes, rows.columns)
        arrow = import_engine("pyarrow", "lancedb")
        try:
            given = given.cast(arrow.schema([table.schema.field(name) for name in given.schema.names]))
        except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
            raise InvalidInputError(
                f"columns have values that the table {self.name} does not hold ({error}); give values of its types."
            ) from error
        merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(given)

    def _delete(self, ids: NDArray[Any]) -> None:
        if not len(ids):
            return
        table = self._open()
        self._check_kind(table, ids)
        for start in range(0, len(ids), DELETED_AT_A_TIME):
            table.delete(id_condition(ids[start : start + DELETED_AT_A_TIME]))

    def _check_kind(self, table: Any, ids: NDArray[Any]) -> None:
        """Raise an error for words as ids of a table of whole numbers, or the other way round; none is no error."""
        has_numbers = table.schema.field("id").type == "int64"
        if len(ids) and (ids.dtype.kind == "i") != has_numbers:
            kind = "whole numbers" if has_numbers else "words"
            raise InvalidInputError(
                f"ids contain {ids[0].item()!r}, and those of {self.name} are {kind}; give such ids."
            )

    def _search(self, queries: NDArray[np.uint8], k: int, where: str | None) -> list[list[Match]]:
        table = self._open()
        return [self._search_one(table, query, k, where) for query in queries]

    def _search_one(self, table: Any, query: NDArray[np.uint8], k: int, where: str | None) -> list[Match]:
        search = table.search(query, vector_column_name="code").distance_type("hamming").select(["id", "_distance"])
        search = search.nprobes(self.probes) if self.approximate else search.bypass_vector_index()
        found = (search if where is None else search.where(where, prefilter=True)).limit(k).to_arrow()
        pairs = zip(found["id"].to_pylist(), found["_distance"].to_pylist(), strict=True)
        return [Match(key, round(distance)) for key, distance in pairs]
