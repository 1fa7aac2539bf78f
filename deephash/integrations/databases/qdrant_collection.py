"""Qdrant: bits as vectors of 0 and 255, ranked by Manhattan distance, which is 255 times the Hamming distance.

Qdrant has no Hamming distance and no packed codes. A code of b bits is a vector of b numbers of one byte (`uint8`) on
the disk, and its binary quantisation keeps b bits in memory: Qdrant subtracts 127 from such numbers and stores the
signs, so these bits are the code. The engine finds candidates by the bits in memory and reads b bytes for each result.

The functions return the bodies of Qdrant's REST interface.

Source: the documentation of Qdrant 1.20 (data types, binary quantisation) and its source (`quantization_preprocess` of
bytes).
"""

import re
import uuid
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from deephash.codes import unpack
from deephash.indexes.base import check_graph
from deephash.indexes.engine_package import import_engine
from deephash.integrations.databases.base import NO_CODES, CodeTable, Match, Rows, check_json_columns, json_columns
from deephash.validation import InvalidInputError

ONE = 255
"""Number that stands for a bit of 1; 0 stands for 0. It must be more than 127."""
NAMESPACE = uuid.UUID("6f3d5a0e-0d0b-5a39-9c8d-0a6d4b8c2f11")
"""Namespace of the UUIDs of words, for `uuid.uuid5`."""
BLOCK_NUMBERS = 2**20
"""Numbers of vectors in one request; as JSON they take about 3 MB of the 32 MB that a server takes."""


def collection_body(bits: int, links: int = 16, ef_construction: int = 100) -> dict[str, Any]:
    """Return the body that creates a collection: PUT /collections/NAME.

    Args:
        bits: code length b.
        links: neighbours m of a node of the graph.
        ef_construction: candidates kept while the graph is built.
    """
    return {
        "vectors": {"size": bits, "distance": "Manhattan", "datatype": "uint8", "on_disk": True},
        "hnsw_config": {"m": links, "ef_construct": ef_construction},
        "quantization_config": {"binary": {"always_ram": True}},
    }


def code_vectors(codes: NDArray[np.uint8], bits: int) -> list[list[int]]:
    """Return codes as vectors of 0 and 255, b numbers each, the first bit first."""
    vectors: list[list[int]] = (unpack(torch.from_numpy(codes), bits).numpy() * np.uint8(ONE)).tolist()
    return vectors


def point_id(key: int | str) -> int | str:
    """Return the id of an item's point; words become UUIDs, since Qdrant takes no other words."""
    return key if isinstance(key, int) else str(uuid.uuid5(NAMESPACE, key))


def points_body(rows: Rows, bits: int) -> dict[str, Any]:
    """Return the body that stores items: PUT /collections/NAME/points. The payload has `id` and the columns."""
    payloads = json_columns(rows.columns, len(rows))
    keys, vectors = rows.ids.tolist(), code_vectors(rows.codes, bits)
    return {
        "points": [
            {"id": point_id(key), "vector": vector, "payload": {"id": key, **payload}}
            for key, vector, payload in zip(keys, vectors, payloads, strict=True)
        ]
    }


def search_body(
    query: NDArray[np.uint8], bits: int, k: int, *, approximate: bool = False, ef_search: int = 100
) -> dict[str, Any]:
    """Return the body of a search: POST /collections/NAME/points/query. Scores are 255 times the distances.

    Args:
        query: packed code uint8 (⌈b/8⌉,).
        bits: code length b.
        k: number of items.
        approximate: whether to use the graph and the bits in memory; False compares the stored vectors.
        ef_search: candidates kept while the graph is searched.
    """
    settings = {"hnsw_ef": max(ef_search, k)} if approximate else {"exact": True}
    (vector,) = code_vectors(query[None], bits)
    return {"query": vector, "limit": k, "params": settings, "with_payload": ["id"]}


@final
class QdrantCollection(CodeTable):
    """Collection of Qdrant, whose points are the bits of codes; use it if your data are in Qdrant already.

    Other engines store b / 8 bytes of a code; Qdrant stores b bytes, and receives b numbers. Ids are whole numbers
    from 0, or words, which become UUIDs of points (`point_id`); the payload has the words as `id`.

    Args:
        client: `qdrant_client.QdrantClient`.
        name: name of the collection.
        bits: code length b.
        approximate: whether a search uses the graph (HNSW) and the bits in memory; False compares all stored vectors.
            Qdrant builds the graph in the background, in either case, once a segment is large (`indexing_threshold`).
        links: neighbours m of a node.
        ef_construction: candidates kept while the graph is built.
        ef_search: candidates kept while it is searched; higher values find more and take longer.
    """

    engine, packages = "Qdrant", ("qdrant_client",)
    pads = False
    name_pattern, name_rule = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{1,255}"), "up to 255 letters, digits, ., _ and -"

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

    @property
    def _models(self) -> Any:
        return import_engine("qdrant_client.models", "qdrant")

    def _find_bits(self) -> int | None:
        if not self.client.collection_exists(self.name):
            return None
        vectors = self.client.get_collection(self.name).config.params.vectors
        # A dict has vectors of several names, which are not codes.
        if isinstance(vectors, dict) or vectors.distance != self._models.Distance.MANHATTAN:
            return NO_CODES
        return int(vectors.size)

    def _check_storable(self, rows: Rows) -> None:
        super()._check_storable(rows)
        self._check_keys(rows.ids)
        check_json_columns(rows.columns)

    def _check_keys(self, ids: NDArray[Any]) -> None:
        if ids.dtype.kind == "i" and len(ids) and ids.min() < 0:
            raise InvalidInputError(f"ids contain {ids.min()}; Qdrant takes whole numbers from 0, or words.")

    def _create(self, rows: Rows) -> None:
        models, body = self._models, collection_body(self.bits, self.links, self.ef_construction)
        self.client.create_collection(
            self.name,
            vectors_config=models.VectorParams(**body["vectors"]),
            hnsw_config=models.HnswConfigDiff(**body["hnsw_config"]),
            quantization_config=models.BinaryQuantization(**body["quantization_config"]),
        )
        try:
            self._put(rows)
        except BaseException:
            self.client.delete_collection(self.name)
            raise

    def _put(self, rows: Rows) -> None:
        for block in rows.split(max(1, BLOCK_NUMBERS // self.bits)):
            points = [self._models.PointStruct(**point) for point in points_body(block, self.bits)["points"]]
            self.client.upsert(self.name, points=points, wait=True)

    def _delete(self, ids: NDArray[Any]) -> None:
        self._check_keys(ids)
        keys = [point_id(key) for key in ids.tolist()]
        if keys:
            self.client.delete(self.name, points_selector=self._models.PointIdsList(points=keys), wait=True)

    def _search(self, queries: NDArray[np.uint8], k: int, where: Any) -> list[list[Match]]:
        bodies = [
            search_body(query, self.bits, k, approximate=self.approximate, ef_search=self.ef_search)
            for query in queries
        ]
        requests = [self._models.QueryRequest(**body, filter=where) for body in bodies]
        return [
            [Match(point.payload["id"], round(point.score / ONE)) for point in response.points]
            for response in self.client.query_batch_points(self.name, requests=requests)
        ]
