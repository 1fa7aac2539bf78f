"""Milvus: a field `BINARY_VECTOR` with the metric `HAMMING`.

Bytes are stored unchanged (`code.tobytes()`), so the first bit is the lowest of its byte. Milvus takes multiples of 8
bits; the padding bits of a code are 0 and add nothing to a distance. Milvus Lite 3.2 has no binary vectors.

Source: the documentation of Milvus 2.6 (binary vectors, BIN_FLAT, BIN_IVF_FLAT, limits).
"""

import json
import re
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from deephash.codes import code_bytes
from deephash.indexes.engine_package import import_engine
from deephash.integrations.databases.base import (
    MAX_WORD_BYTES,
    NO_CODES,
    CodeTable,
    Match,
    Rows,
    check_json_columns,
    json_columns,
)
from deephash.validation import InvalidInputError, check_count

if TYPE_CHECKING:
    import polars

FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
MAX_TEXT_BYTES = 65_535
"""Longest text of a column."""
BLOCK_BYTES, BLOCK_ROWS = 2**22, 10_000
"""Bounds of one request: bytes of its codes, and rows. A server takes 64 MB."""


def find_field_type(kind: "polars.DataType") -> dict[str, Any]:
    """Return Milvus's type for a type of polars; dates and times are ISO 8601 texts, which compare as they do."""
    import polars

    if kind.is_integer():
        return {"datatype": "INT64"}
    if kind.is_float():
        return {"datatype": "DOUBLE"}
    if isinstance(kind, polars.Boolean):
        return {"datatype": "BOOL"}
    return {"datatype": "VARCHAR", "max_length": MAX_TEXT_BYTES}


def schema_fields(bits: int, kinds: "dict[str, polars.DataType] | None" = None, *, words: bool = False) -> list[Any]:
    """Return the fields of a collection, as arguments of `add_field` of Milvus's schema; types are names.

    Args:
        bits: code length b.
        kinds: types of further columns, by name; their values may be missing.
        words: whether ids are words.
    """
    kind = {"datatype": "VARCHAR", "max_length": MAX_WORD_BYTES} if words else {"datatype": "INT64"}
    further = [{"field_name": name, **find_field_type(kind), "nullable": True} for name, kind in (kinds or {}).items()]
    return [
        {"field_name": "id", **kind, "is_primary": True},
        {"field_name": "code", "datatype": "BINARY_VECTOR", "dim": 8 * code_bytes(bits)},
        *further,
    ]


def index_settings(*, approximate: bool = False, lists: int = 128) -> dict[str, Any]:
    """Return the index of the codes, as arguments of `add_index`: a scan, or inverted lists."""
    if not approximate:
        return {"field_name": "code", "index_type": "BIN_FLAT", "metric_type": "HAMMING"}
    return {
        "field_name": "code",
        "index_type": "BIN_IVF_FLAT",
        "metric_type": "HAMMING",
        "params": {"nlist": lists},
    }


def entity_rows(rows: Rows) -> list[dict[str, Any]]:
    """Return rows as `insert` and `upsert` of a client take them."""
    columns, keys = json_columns(rows.columns, len(rows)), rows.ids.tolist()
    return [
        {"id": key, "code": code.tobytes(), **row} for key, code, row in zip(keys, rows.codes, columns, strict=True)
    ]


def id_condition(ids: NDArray[Any]) -> str:
    """Return a condition of Milvus that selects ids (n,), n from 1. A list of JSON is one of Milvus, too."""
    return f"id in {json.dumps(ids.tolist(), ensure_ascii=False)}"


@final
class MilvusCollection(CodeTable):
    """Collection of `id`, `code` and further fields in Milvus.

    Its consistency is `Strong`, so that a search sees the changes before it.

    Args:
        client: `pymilvus.MilvusClient`, connected to a server.
        name: name of the collection.
        bits: code length b.
        approximate: whether `create` builds inverted lists (BIN_IVF_FLAT) that searches use; False scans (BIN_FLAT).
        lists: number of lists, up to 65,536.
        probes: lists that a search scans, up to `lists`; higher values find more and take longer.
    """

    engine, packages = "Milvus", ("pymilvus",)
    name_pattern, name_rule = FIELD_NAME, "letters, digits and _, up to 255 characters, not a digit first"
    column_pattern, column_rule = FIELD_NAME, f"a name of {name_rule}"
    max_results = 16_384

    def __init__(
        self,
        client: Any,
        name: str,
        bits: int,
        *,
        approximate: bool = False,
        lists: int = 128,
        probes: int = 16,
    ) -> None:
        super().__init__(client, name, bits, approximate=approximate)
        check_count(lists, "lists")
        check_count(probes, "probes")
        self.lists, self.probes = lists, probes

    def _find_bits(self) -> int | None:
        if not self.client.has_collection(self.name):
            return None
        fields = {field["name"]: field for field in self.client.describe_collection(self.name)["fields"]}
        kinds = import_engine("pymilvus", "milvus").DataType
        if "code" not in fields or fields["code"]["type"] != kinds.BINARY_VECTOR:
            return NO_CODES
        return int(fields["code"]["params"]["dim"])

    def _check_storable(self, rows: Rows) -> None:
        import polars

        super()._check_storable(rows)
        check_json_columns(rows.columns)
        texts = [] if rows.columns is None else rows.columns.select(polars.selectors.string()).get_columns()
        for name, size in ((text.name, text.str.len_bytes().max()) for text in texts):
            if isinstance(size, int) and size > MAX_TEXT_BYTES:
                raise InvalidInputError(
                    f"column {name!r} contains a text of {size} bytes; Milvus stores at most {MAX_TEXT_BYTES}: shorten "
                    "it."
                )

    def _create(self, rows: Rows) -> None:
        package = import_engine("pymilvus", "milvus")
        schema = package.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for field in schema_fields(self.bits, rows.kinds, words=rows.has_words):
            schema.add_field(**{**field, "datatype": package.DataType[field["datatype"]]})
        indexes = package.MilvusClient.prepare_index_params()
        indexes.add_index(**index_settings(approximate=self.approximate, lists=self.lists))
        self.client.create_collection(self.name, schema=schema, index_params=indexes, consistency_level="Strong")
        try:
            self._send(rows, self.client.insert)
        except BaseException:
            self.client.drop_collection(self.name)
            raise

    def _send(self, rows: Rows, send: Any) -> None:
        for block in rows.split(max(1, min(BLOCK_ROWS, BLOCK_BYTES // code_bytes(self.bits)))):
            send(self.name, entity_rows(block))

    def _put(self, rows: Rows) -> None:
        self._send(rows, self.client.upsert)

    def _delete(self, ids: NDArray[Any]) -> None:
        for start in range(0, len(ids), BLOCK_ROWS):
            # Not by the argument ids: pymilvus puts words into the condition without escaping quotation marks.
            self.client.delete(self.name, filter=id_condition(ids[start : start + BLOCK_ROWS]))

    def _search(self, queries: NDArray[np.uint8], k: int, where: str | None) -> list[list[Match]]:
        params = {"nprobe": min(self.probes, self.lists)} if self.approximate else {}
        found = self.client.search(
            self.name,
            data=[query.tobytes() for query in queries],
            anns_field="code",
            filter=where or "",
            limit=k,
            search_params={"metric_type": "HAMMING", "params": params},
        )
        return [[Match(hit["id"], round(hit["distance"])) for hit in hits] for hits in found]
