"""Stand-ins for servers that cannot run in a test: they read what they are sent as the engines' manuals define it.

The clients are the real ones, up to the request. A stand-in finds neighbours by NumPy among the bytes it was sent.
"""

import json
import re
from typing import ClassVar

import numpy as np
import opensearchpy
import pymilvus


def distances(codes, query):
    """Hamming distances of bytes uint8 (n, B) from a query (B,)."""
    return np.bitwise_count(codes ^ query).sum(1, dtype=np.int64)


def below(price, limit):
    """Whether a price is below a limit; a missing one is not."""
    return price is not None and price < float(limit)


class Milvus(pymilvus.MilvusClient):
    """A client that keeps the collections itself; its methods have some of the real parameters, by their names."""

    def __init__(self):
        self.collections = {}

    def close(self):
        pass

    def has_collection(self, collection_name):
        return collection_name in self.collections

    def drop_collection(self, collection_name):
        del self.collections[collection_name]

    def create_collection(self, collection_name, schema, index_params, **kwargs):
        if all(field.dtype != pymilvus.DataType.BINARY_VECTOR for field in schema.fields):
            self.collections[collection_name] = ({field["name"]: field for field in schema.to_dict()["fields"]}, {})
            return
        assert kwargs == {"consistency_level": "Strong"}
        assert not schema.enable_dynamic_field
        assert not schema.auto_id
        (index,) = index_params
        described = index.to_dict()
        assert described["field_name"] == "code"
        assert described["metric_type"] == "HAMMING"
        assert described["index_type"] in ("BIN_FLAT", "BIN_IVF_FLAT")
        assert ("nlist" in described) == (described["index_type"] == "BIN_IVF_FLAT")
        fields = {field["name"]: field for field in schema.to_dict()["fields"]}
        assert fields["code"]["params"]["dim"] % 8 == 0
        self.collections[collection_name] = (fields, {})

    def describe_collection(self, collection_name):
        return {"fields": list(self.collections[collection_name][0].values())}

    def insert(self, collection_name, data):
        fields, stored = self.collections[collection_name]
        assert len(data) <= 16_384 * 4
        kinds = pymilvus.DataType
        allowed = {kinds.INT64: int, kinds.VARCHAR: str, kinds.DOUBLE: float, kinds.BOOL: bool}
        for row in data:
            assert row.keys() == fields.keys()
            assert len(row["code"]) * 8 == fields["code"]["params"]["dim"]
            for name, value in row.items():
                if name != "code":
                    assert type(value) is allowed[fields[name]["type"]] or (value is None and fields[name]["nullable"])
            stored[row["id"]] = row

    def upsert(self, collection_name, data):
        self.insert(collection_name, data)

    def delete(self, collection_name, filter):
        for key in json.loads(re.fullmatch(r"id in (\[.*\])", filter)[1]):
            self.collections[collection_name][1].pop(key, None)

    def search(self, collection_name, data, filter, limit, search_params, anns_field):
        fields, stored = self.collections[collection_name]
        assert anns_field == "code"
        assert search_params["metric_type"] == "HAMMING"
        price = re.fullmatch(r"price < (\d+)", filter)
        rows = [row for row in stored.values() if not filter or below(row["price"], price[1])]
        codes = np.frombuffer(b"".join(row["code"] for row in rows), np.uint8)
        codes = codes.reshape(len(rows), fields["code"]["params"]["dim"] // 8)
        found = []
        for query in data:
            near = distances(codes, np.frombuffer(query, np.uint8))
            order = np.argsort(near, kind="stable")[:limit]
            found.append([{"id": rows[place]["id"], "distance": float(near[place])} for place in order])
        return found


class OpenSearch(opensearchpy.connection.Connection):
    """The end of a client's connection, for `OpenSearch(connection_class=...)`; all connections share the indexes."""

    indices: ClassVar = {}

    def close(self):
        pass

    def perform_request(self, method, url, params=None, body=None, timeout=None, ignore=(), headers=None):
        status, reply = self.answer(method, url.strip("/").split("/"), body)
        if not 200 <= status < 300 and status not in ignore:
            self._raise_error(status, json.dumps(reply), "application/json")
        return status, {"content-type": "application/json"}, json.dumps(reply)

    def answer(self, method, path, body):
        name, *rest = path
        if method == "HEAD":
            return (200 if name in self.indices else 404), {}
        if name == "_bulk":
            return 200, self.bulk(body.decode() if isinstance(body, bytes) else body)
        if method == "PUT" and not rest:
            if name in self.indices:
                return 400, {"error": {"type": "resource_already_exists_exception"}, "status": 400}
            self.indices[name] = (self.checked(json.loads(body)), {})
            return 200, {"acknowledged": True}
        if name not in self.indices:
            return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
        if method == "DELETE":
            del self.indices[name]
            return 200, {"acknowledged": True}
        if rest == ["_mapping"]:
            return 200, {name: {"mappings": self.indices[name][0]["mappings"]}}
        if rest == ["_refresh"]:
            return 200, {}
        assert rest == ["_search"]
        return 200, {"hits": {"hits": self.search(name, json.loads(body))}}

    def checked(self, body):
        """A body that creates an index, with what the manual requires of binary vectors."""
        code = body["mappings"]["properties"]["code"]
        if code["type"] != "knn_vector":
            return body
        assert code["data_type"] == "binary"
        assert code["dimension"] % 8 == 0
        assert code["dimension"] <= 16_000
        if body["settings"]["index"]["knn"]:
            assert code["space_type"] == "hamming"
            assert code["method"]["engine"] == "faiss"
            assert code["method"]["name"] == "hnsw"
        else:  # "Cannot set modelId or method parameters when index.knn setting is false"
            assert "method" not in code
        return body

    def bulk(self, text):
        assert text.endswith("\n")
        assert len(text) < 100 * 2**20
        lines, items = iter([json.loads(line) for line in text.splitlines()]), []
        for action in lines:
            ((verb, about),) = action.items()
            body, stored = self.indices[about["_index"]]
            outcome = {"_id": about["_id"], "status": 200}
            if verb == "delete":
                outcome["result"] = "deleted" if stored.pop(about["_id"], None) else "not_found"
            else:
                document, properties = next(lines), body["mappings"]["properties"]
                unknown = document.keys() - properties.keys()
                vector = document["code"]
                if unknown:
                    outcome = {"_id": about["_id"], "status": 400, "error": {"reason": f"[{unknown}] is not allowed"}}
                elif len(vector) * 8 != properties["code"]["dimension"]:
                    outcome = {"_id": about["_id"], "status": 400, "error": {"reason": "another dimension"}}
                else:
                    assert all(type(each) is int and -128 <= each <= 127 for each in vector)
                    stored[about["_id"]] = document
            items.append({verb: outcome})
        return {"errors": any("error" in outcome for item in items for outcome in item.values()), "items": items}

    def search(self, name, body):
        index, stored = self.indices[name]
        assert body["size"] <= 10_000
        query = body["query"]
        if "knn" in query:
            assert index["settings"]["index"]["knn"], "a search of the graph needs one"
            near = query["knn"]["code"]
            assert near["k"] <= 10_000
            vector, where = near["vector"], near.get("filter")
        else:
            script = query["script_score"]["script"]
            assert (script["lang"], script["source"]) == ("knn", "knn_score")
            assert (script["params"]["field"], script["params"]["space_type"]) == ("code", "hamming")
            vector, among = script["params"]["query_value"], query["script_score"]["query"]
            where = None if among == {"match_all": {}} else among["bool"]["filter"]
        rows = [row for row in stored.values() if where is None or below(row["price"], where["range"]["price"]["lt"])]
        codes = np.array([row["code"] for row in rows], np.int8).view(np.uint8).reshape(len(rows), len(vector))
        scores = np.float32(1) / (1 + distances(codes, np.array(vector, np.int8).view(np.uint8)).astype(np.float32))
        order = np.argsort(-scores, kind="stable")[: body["size"]]
        return [
            {
                "_id": str(rows[place]["id"]),
                "_score": float(scores[place]),
                "_source": {field: rows[place][field] for field in body["_source"]},
            }
            for place in order
        ]
