"""OpenSearch 2.16 and later: a field `knn_vector` of data type `binary`, with the space `hamming`.

A code is a list of ⌈b/8⌉ signed bytes, -128 to 127; the first bit is the lowest of its byte. OpenSearch takes multiples
of 8 bits; the padding bits of a code are 0 and add nothing to a distance. The score of a hit is 1 / (1 + distance).

The functions return the bodies of OpenSearch's REST interface.

Source: the documentation of OpenSearch 3 (binary vectors, spaces, exact search with a scoring script, bulk).
"""

import re
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from deephash.codes import code_bytes
from deephash.indexes.base import check_graph
from deephash.integrations.databases.base import NO_CODES, CodeTable, Match, Rows, check_json_columns, json_columns
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

INDEX_NAME = re.compile(r"(?=.{1,255}$)[a-z0-9][a-z0-9_.-]*")
BLOCK_BYTES, BLOCK_ROWS = 2**20, 5_000
"""Bounds of one request: bytes of its codes, and rows."""


def signed_bytes(codes: NDArray[np.uint8]) -> list[Any]:
    """Return packed codes as lists of signed bytes."""
    signed: list[Any] = np.ascontiguousarray(codes).view(np.int8).tolist()
    return signed


def find_field_type(kind: "polars.DataType") -> str:
    """Return OpenSearch's type for a type of polars."""
    import polars

    if kind.is_integer():
        return "long"
    if kind.is_float():
        return "double"
    names: dict[Any, str] = {polars.Boolean: "boolean", polars.Date: "date", polars.Datetime: "date"}
    return names.get(type(kind), "keyword")


def index_body(
    bits: int,
    kinds: "dict[str, polars.DataType] | None" = None,
    *,
    words: bool = False,
    approximate: bool = False,
    links: int = 16,
    ef_construction: int = 100,
) -> dict[str, Any]:
    """Return the body that creates an index: PUT /NAME.

    Args:
        bits: code length b.
        kinds: types of further columns, by name.
        words: whether ids are words.
        approximate: whether to build a graph (HNSW of FAISS); without one, a script scans.
        links: neighbours m of a node.
        ef_construction: candidates kept while the graph is built.
    """
    code: dict[str, Any] = {"type": "knn_vector", "dimension": 8 * code_bytes(bits), "data_type": "binary"}
    if approximate:
        parameters = {"m": links, "ef_construction": ef_construction}
        code["space_type"] = "hamming"
        code["method"] = {"name": "hnsw", "engine": "faiss", "parameters": parameters}
    further = {name: {"type": find_field_type(kind)} for name, kind in (kinds or {}).items()}
    properties = {"id": {"type": "keyword" if words else "long"}, "code": code, **further}
    return {"settings": {"index": {"knn": approximate}}, "mappings": {"dynamic": "strict", "properties": properties}}


def bulk_lines(name: str, rows: Rows) -> list[dict[str, Any]]:
    """Return the lines that store rows: POST /_bulk. Each row is an action and a document."""
    columns, codes = json_columns(rows.columns, len(rows)), signed_bytes(rows.codes)
    lines: list[dict[str, Any]] = []
    for key, code, row in zip(rows.ids.tolist(), codes, columns, strict=True):
        lines += [{"index": {"_index": name, "_id": str(key)}}, {"id": key, "code": code, **row}]
    return lines


def search_body(
    query: NDArray[np.uint8],
    k: int,
    where: dict[str, Any] | None = None,
    *,
    approximate: bool = False,
    ef_search: int = 100,
) -> dict[str, Any]:
    """Return the body of a search: POST /NAME/_search.

    Args:
        query: packed code uint8 (⌈b/8⌉,).
        k: number of items.
        where: filter, a query of OpenSearch such as {"range": {"price": {"lt": 60}}}.
        approximate: whether to use the graph; False scans by a script, which needs no graph.
        ef_search: candidates kept while the graph is searched.
    """
    vector = signed_bytes(query)
    if approximate:
        near: dict[str, Any] = {"vector": vector, "k": k, "method_parameters": {"ef_search": max(ef_search, k)}}
        if where is not None:
            near["filter"] = where
        asked: dict[str, Any] = {"knn": {"code": near}}
    else:
        params = {"field": "code", "query_value": vector, "space_type": "hamming"}
        among = {"match_all": {}} if where is None else {"bool": {"filter": where}}
        asked = {"script_score": {"query": among, "script": {"lang": "knn", "source": "knn_score", "params": params}}}
    return {"size": k, "_source": ["id"], "query": asked}


def distance_of(score: float) -> int:
    """Return the Hamming distance of a score."""
    return round(1 / score - 1)


@final
class OpenSearchIndex(CodeTable):
    """Index of `id`, `code` and further fields in OpenSearch.

    Documents have the id as `_id`, as text, and as a field. A refresh after each change makes it visible to searches.

    Args:
        client: `opensearchpy.OpenSearch`.
        name: name of the index.
        bits: code length b, up to 16,000.
        approximate: whether a search uses the graph (HNSW of FAISS) that OpenSearch then builds; False scans.
        links: neighbours m of a node.
        ef_construction: candidates kept while the graph is built.
        ef_search: candidates kept while it is searched; higher values find more and take longer.
    """

    engine, packages = "OpenSearch", ("opensearchpy",)
    name_pattern = INDEX_NAME
    name_rule = "up to 255 small letters, digits, ., _ and -, a letter or digit first"
    column_pattern, column_rule = re.compile(r"[^.\s*\\]+"), "a name without dots, spaces, * and \\"
    max_bits, max_results = 16_000, 10_000

    def __init__(
        self,
        client: Any,
        name: str,
        bits: int,
        *,
        approximate: bool = False,
        links: int = 16,
        ef_construction: int = 100,
        ef_search: int = 100,
    ) -> None:
        super().__init__(client, name, bits, approximate=approximate)
        check_graph(links, ef_construction, ef_search)
        self.links, self.ef_construction, self.ef_search = links, ef_construction, ef_search

    def _find_bits(self) -> int | None:
        if not self.client.indices.exists(index=self.name):
            return None
        (index,) = self.client.indices.get_mapping(index=self.name).values()
        code = index["mappings"].get("properties", {}).get("code", {})
        return int(code["dimension"]) if code.get("data_type") == "binary" else NO_CODES

    def _check_storable(self, rows: Rows) -> None:
        super()._check_storable(rows)
        check_json_columns(rows.columns)

    def _create(self, rows: Rows) -> None:
        body = index_body(
            self.bits,
            rows.kinds,
            words=rows.has_words,
            approximate=self.approximate,
            links=self.links,
            ef_construction=self.ef_construction,
        )
        self.client.indices.create(index=self.name, body=body)
        try:
            self._put(rows)
        except BaseException:
            self.client.indices.delete(index=self.name)
            raise

    def _put(self, rows: Rows) -> None:
        for block in rows.split(max(1, min(BLOCK_ROWS, BLOCK_BYTES // code_bytes(self.bits)))):
            self._send(bulk_lines(self.name, block))
        self.client.indices.refresh(index=self.name)

    def _delete(self, ids: NDArray[Any]) -> None:
        for start in range(0, len(ids), BLOCK_ROWS):
            keys = map(str, ids[start : start + BLOCK_ROWS].tolist())
            self._send([{"delete": {"_index": self.name, "_id": key}} for key in keys])
        self.client.indices.refresh(index=self.name)

    def _send(self, lines: list[dict[str, Any]]) -> None:
        """Send lines of the bulk interface; an item that is not stored is an error of the reply alone."""
        reply = self.client.bulk(body=lines)
        for item in reply["items"] if reply["errors"] else []:
            (outcome,) = item.values()
            if "error" in outcome:
                reason = outcome["error"].get("reason")
                raise InvalidInputError(f"OpenSearch does not store the item {outcome['_id']!r} ({reason}); change it.")

    def _search(self, queries: NDArray[np.uint8], k: int, where: Any) -> list[list[Match]]:
        found = []
        for query in queries:
            body = search_body(query, k, where, approximate=self.approximate, ef_search=self.ef_search)
            hits = self.client.search(index=self.name, body=body)["hits"]["hits"]
            found.append([Match(hit["_source"]["id"], distance_of(hit["_score"])) for hit in hits])
        return found
