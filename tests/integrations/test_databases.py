"""Codes in databases: every engine finds what a scan finds, and keeps ids and columns.

LanceDB, PostgreSQL and Qdrant's engine run here. Milvus and OpenSearch run if DEEPHASH_TEST_MILVUS and
DEEPHASH_TEST_OPENSEARCH contain addresses of servers; without, stand-ins read what their real clients send.
"""

import datetime
import inspect
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars
import pytest
import torch

import deephash
from deephash.codes import pack
from deephash.integrations.databases import (
    create_table,
    milvus_collection,
    open_table,
    opensearch_index,
    pgvector_table,
    qdrant_collection,
)
from deephash.integrations.databases.base import Rows
from deephash.validation import InvalidInputError

ENGINES = ("lancedb", "pgvector", "qdrant", "milvus", "opensearch")
WITHOUT_NAMES = {"lancedb": "a b", "pgvector": 'a"; DROP TABLE users; --', "qdrant": "a/b", "milvus": "a-b"} | {
    "opensearch": "Capitals"
}
pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning:qdrant_client")


@dataclass
class Engine:
    name: str
    client: Any
    below: Any
    """A function that returns the engine's filter for prices below a number."""
    drop: Any


def connect_lancedb(request):
    lancedb = pytest.importorskip("lancedb")
    client = lancedb.connect(request.getfixturevalue("tmp_path") / "lance")
    return client, lambda limit: f"price < {limit}", client.drop_table


def connect_pgvector(request):
    psycopg = pytest.importorskip("psycopg")
    client = psycopg.connect(request.getfixturevalue("postgres"), autocommit=True)
    drop = lambda name: client.execute(f'DROP TABLE "{name}"')  # noqa: E731
    return client, lambda limit: f"price < {limit} -- a comment", drop


def connect_qdrant(request):
    package = pytest.importorskip("qdrant_client")
    address = os.environ.get("DEEPHASH_TEST_QDRANT")
    client = package.QdrantClient(address) if address else package.QdrantClient(":memory:")

    def below(limit):
        bound = package.models.FieldCondition(key="price", range=package.models.Range(lt=limit))
        return package.models.Filter(must=[bound])

    return client, below, client.delete_collection


def connect_milvus(request):
    package = pytest.importorskip("pymilvus")
    if os.environ.get("DEEPHASH_TEST_MILVUS"):
        client = package.MilvusClient(os.environ["DEEPHASH_TEST_MILVUS"])
    else:
        from stand_ins import Milvus

        client = Milvus()
    return client, lambda limit: f"price < {limit}", client.drop_collection


def connect_opensearch(request):
    package = pytest.importorskip("opensearchpy")
    if os.environ.get("DEEPHASH_TEST_OPENSEARCH"):
        client = package.OpenSearch(os.environ["DEEPHASH_TEST_OPENSEARCH"])
    else:
        from stand_ins import OpenSearch

        client = package.OpenSearch("http://localhost:9200", connection_class=OpenSearch)
    return client, lambda limit: {"range": {"price": {"lt": limit}}}, lambda name: client.indices.delete(index=name)


@pytest.fixture(params=ENGINES)
def engine(request):
    client, below, drop = globals()[f"connect_{request.param}"](request)
    made = []
    yield Engine(request.param, client, below, made.append)
    for name in made:
        drop(name)
    client.close() if hasattr(client, "close") else None


def create(engine, codes, name="items", **settings):
    table = create_table(engine.client, name, codes, **settings)
    engine.drop(name)
    return table


def random_codes(rows, bits, seed=0):
    return pack(torch.from_numpy(np.random.default_rng(seed).random((rows, bits)) < 0.5)).numpy()


def compare(queries, codes):
    """Hamming distances int64 (q, n)."""
    return np.bitwise_count(queries[:, None] ^ codes[None]).sum(-1, dtype=np.int64)


def check_matches(found, queries, codes, k):
    """Each query has k different items at their true distances, which are those of a scan."""
    index = deephash.index(codes, "flat")
    for matches, wanted, true in zip(found, index.search(queries, k)[0].tolist(), compare(queries, codes), strict=True):
        assert [match.distance for match in matches] == wanted
        assert [true[match.id] for match in matches] == wanted
        assert len({match.id for match in matches}) == k


def test_real_codes_are_found_as_by_a_scan(engine, sift_codes):
    codes, queries = sift_codes
    table = create(engine, codes, bits=60)
    check_matches(table.search(queries, 10), queries, codes, 10)
    assert table.search(codes[-1:], 1)[0][0].distance == 0


def test_an_index_of_the_engine_finds_nearly_all(engine, sift_codes):
    codes, queries = sift_codes
    create(engine, codes, bits=60, approximate=True)
    found = open_table(engine.client, "items", 60, approximate=True).search(queries, 10)
    true, wanted = compare(queries, codes), np.sort(compare(queries, codes))[:, 9]
    assert all(match.distance == true[row, match.id] for row, matches in enumerate(found) for match in matches)
    near = [match.distance <= wanted[row] for row, matches in enumerate(found) for match in matches]
    assert sum(near) >= 0.9 * 10 * len(queries)


@pytest.mark.parametrize("bits", [1, 8, 37, 64, 129, 1000])
def test_any_number_of_bits_is_stored(engine, bits):
    codes, queries = random_codes(30, bits), random_codes(2, bits, 1)
    table = create(engine, codes, bits=bits)
    check_matches(table.search(queries, 30), queries, codes, 30)


COLUMNS = {
    "price": [0.5, 1.5, 2.5, 3.5],
    "count": [1, -2, 2**40, 0],
    "word": ["a", "b'\"%\\", "", "ü🙂"],
    "sold": [True, False, True, False],
    "day": [datetime.date(2026, 1, day) for day in (1, 2, 3, 4)],
    "at": [datetime.datetime(2026, 1, 1, hour, 5, 6) for hour in (1, 2, 3, 4)],
}
WORDS = ["a'b", 'c"d', "e\\f", "' OR 1=1 --"]


@pytest.mark.parametrize("ids", [[3, 0, 2**62, 7], WORDS, None])
def test_items_are_replaced_and_removed(engine, ids):
    codes = random_codes(4, 20)
    table = create(engine, codes, bits=20, ids=ids, columns=COLUMNS)
    names = list(range(4)) if ids is None else ids
    assert [table.search(codes[row : row + 1], 1)[0][0] for row in range(4)] == [(name, 0) for name in names]
    assert {match.id for match in table.search(codes[:1], 9, engine.below(2))[0]} == set(names[:2])

    again = open_table(engine.client, "items", 20)
    changed = {name: values[:2] for name, values in COLUMNS.items()} | {"price": [9.5, 0.5]}
    again.put(codes[2:], names[:2], changed)
    again.put(codes[2:], names[:2], changed)
    found = table.search(codes[2:3], 9)[0]
    assert [match.id for match in found if match.distance == 0] == sorted([names[0], names[2]])
    assert len(found) == 4
    assert {match.id for match in table.search(codes[:1], 9, engine.below(2))[0]} == {names[1]}

    again.delete([names[3]])
    again.delete([names[3], names[0]])
    assert {match.id for match in table.search(codes[:1], 9)[0]} == {names[1], names[2]}


def test_ids_and_columns_of_another_table_are_refused(tmp_path):
    client = pytest.importorskip("lancedb").connect(tmp_path)
    codes = random_codes(2, 12)
    table = create_table(client, "items", codes, bits=12, ids=["a", "b"], columns={"price": [1, 2]})
    for ids, columns, message in (
        ([1], {"price": [3]}, "ids contain 1, and those of items are words"),
        (["a"], None, "columns are none; expected those of the table items: price"),
        (["a"], {"price": [3], "colour": ["red"]}, "columns are colour, price; expected"),
        (["a"], {"price": ["cheap"]}, "columns have values that the table items does not hold"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            table.put(codes[:1], ids, columns)
    with pytest.raises(InvalidInputError, match="ids contain 1, and those of items are words"):
        table.delete([1])
    assert table.search(codes[:1], 3)[0][0] == ("a", 0)


def test_exact_lengths_are_checked_where_the_engine_stores_them(engine):
    create(engine, random_codes(2, 16), bits=16)
    if engine.name in ("qdrant", "pgvector"):
        with pytest.raises(InvalidInputError, match="holds codes of 16 bits, and bits=15"):
            open_table(engine.client, "items", 15)
    else:
        assert open_table(engine.client, "items", 15).bits == 15


def test_ties_are_ordered_by_id(engine):
    codes = np.zeros((5, 2), np.uint8)
    table = create(engine, codes, ids=[4, 2, 9, 0, 7])
    assert table.search(codes[:1], 5) == [[(0, 0), (2, 0), (4, 0), (7, 0), (9, 0)]]


def test_a_table_starts_without_items(engine):
    codes = random_codes(3, 12)
    table = create(engine, codes[:0], bits=12)
    assert table.search(codes[:2], 3) == [[], []]
    assert table.search(codes[:0], 3) == []
    table.put(codes, [5, 6, 7])
    table.put(codes[:0], [])
    table.delete([])
    assert table.search(codes[:1], 1) == [[(5, 0)]]


def test_what_exists_is_not_touched(engine):
    codes = random_codes(3, 12)
    create(engine, codes, bits=12)
    with pytest.raises(InvalidInputError, match=r"items exists already in .*open it with open_table"):
        create_table(engine.client, "items", codes[:1], bits=12)
    with pytest.raises(InvalidInputError, match=r"items holds codes of 1[26] bits, and bits=40; give bits=1[26]"):
        open_table(engine.client, "items", 40)
    with pytest.raises(InvalidInputError, match=r"nothing does not exist in .*create it with create_table"):
        open_table(engine.client, "nothing", 12)
    assert len(open_table(engine.client, "items", 12).search(codes[:1], 3)[0]) == 3


def test_a_table_of_something_else_is_not_touched(engine):
    if engine.name == "pgvector":
        engine.client.execute("CREATE TABLE items (id bigint, code bytea)")
    elif engine.name == "lancedb":
        engine.client.create_table("items", polars.DataFrame({"id": [1], "code": [b"a"]}).to_arrow())
    elif engine.name == "qdrant":
        models = pytest.importorskip("qdrant_client").models
        engine.client.create_collection("items", models.VectorParams(size=16, distance=models.Distance.COSINE))
    elif engine.name == "opensearch":
        mapping = {"properties": {"code": {"type": "keyword"}}}
        engine.client.indices.create(index="items", body={"mappings": mapping})
    else:
        package = pytest.importorskip("pymilvus")
        schema = package.MilvusClient.create_schema()
        schema.add_field("id", package.DataType.INT64, is_primary=True)
        schema.add_field("code", package.DataType.FLOAT_VECTOR, dim=16)
        indexes = package.MilvusClient.prepare_index_params()
        indexes.add_index("code", index_type="FLAT", metric_type="L2")
        engine.client.create_collection("items", schema=schema, index_params=indexes)
    engine.drop("items")
    with pytest.raises(InvalidInputError, match=r"items in .* is not a table of codes"):
        open_table(engine.client, "items", 16)
    with pytest.raises(InvalidInputError, match="items exists already"):
        create_table(engine.client, "items", np.zeros((2, 2), np.uint8))


def test_a_failure_leaves_no_table(engine, monkeypatch):
    codes = random_codes(3, 12)
    with monkeypatch.context() as patched:
        # What is sent after the table was created.
        for module, function in (
            (qdrant_collection, "points_body"),
            (milvus_collection, "entity_rows"),
            (opensearch_index, "bulk_lines"),
            (pgvector_table, "copy_statement"),
        ):
            patched.setattr(module, function, lambda *_: 1 / 0)
        if engine.name == "lancedb":
            patched.setattr("lancedb.table.LanceTable.create_index", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            create_table(engine.client, "items", codes, bits=12, approximate=True)
    create(engine, codes, bits=12)


def test_columns_without_a_value_are_stored(engine):
    if os.environ.get("DEEPHASH_TEST_MILVUS") and engine.name == "milvus":
        pytest.skip("a server before 2.5 has no missing values")
    codes = random_codes(2, 12)
    columns = polars.DataFrame({"price": [1.5, None], "word": [None, "b"]})
    table = create(engine, codes, bits=12, columns=columns)
    table.put(codes[:1], [0], {"price": [None], "word": [None]})
    assert table.search(codes[:1], 9, engine.below(2)) == [[]]


INVALID = {
    "floats": (dict(codes=np.zeros((2, 2))), r"codes have dtype float64; packed codes are uint8"),
    "one axis": (dict(codes=np.zeros(4, np.uint8)), r"codes have shape \(4,\); expected packed codes"),
    "width": (dict(bits=30), r"codes have shape \(2, 2\); codes of 30 bits are packed as \(n, 4\)"),
    "padding": (dict(codes=np.full((2, 2), 255, np.uint8), bits=9), "ones beyond bit 9"),
    "no bits": (dict(codes=np.zeros((2, 0), np.uint8)), "bits=0; expected a whole number"),
    "ids twice": (dict(ids=["b", "b"]), "ids contain 'b' more than once"),
    "ids count": (dict(ids=[1, 2, 3]), "expected a whole number or a word for each of the 2 items"),
    "ids mixed": (dict(ids=[1, "b"]), "not a mix"),
    "ids ragged": (dict(ids=[[1], [2, 3]]), "expected a whole number or a word"),
    "ids floats": (dict(ids=[0.5, 1.5]), "expected a whole number or a word"),
    "id empty": (dict(ids=["a", ""]), "ids contain ''; expected words of 1 to 512 bytes"),
    "id long": (dict(ids=["a", "ü" * 300]), "expected words of 1 to 512 bytes"),
    "columns": (dict(columns={"price": [1]}), "columns have 1 rows; expected 2"),
    "column id": (dict(columns={"ID": [1, 2]}), "columns have the name 'ID'; id, code, distance and names that begin"),
    "column lists": (dict(columns={"a": [[1], [2]]}), "column 'a' is of type List"),
    "setting": (dict(link=3), "has no setting link; it has approximate, "),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input_is_refused_before_anything_is_sent(engine, case):
    given, message = INVALID[case]
    with pytest.raises(InvalidInputError, match=message):
        create_table(engine.client, "items", **({"codes": np.zeros((2, 2), np.uint8)} | given))
    create(engine, np.zeros((2, 2), np.uint8))  # No table was created.


def test_invalid_searches_are_refused(engine):
    table = create(engine, random_codes(3, 12), bits=12)
    for queries, k, message in (
        (np.zeros((1, 3), np.uint8), 1, "query codes have shape"),
        (np.full((1, 2), 255, np.uint8), 1, "query codes have ones beyond bit 12"),
        (np.zeros((1, 2), np.int8), 1, "query codes have dtype int8"),
        (np.zeros((1, 2), np.uint8), 0, "k=0; expected a whole number"),
        (np.zeros((1, 2), np.uint8), 2.5, "k=2.5; expected a whole number"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            table.search(queries, k)


def test_invalid_names_are_refused(engine):
    for name in (WITHOUT_NAMES[engine.name], "", "..", None, "x" * 300 + "/"):
        with pytest.raises(InvalidInputError, match="expected a name of"):
            create_table(engine.client, name, np.zeros((2, 2), np.uint8))


def test_names_of_columns_are_quoted_or_refused(engine):
    name = 'a "b"; %s $1'
    columns = {name: [1, 2], "name": ["x", "y"]}
    codes = random_codes(2, 12)
    if engine.name in ("milvus", "opensearch"):
        with pytest.raises(InvalidInputError, match="rename it"):
            create_table(engine.client, "items", codes, bits=12, columns=columns)
        return
    table = create(engine, codes, bits=12, columns=columns)
    table.put(codes[:1], [0], {name: [5], "name": ["z"]})
    assert len(table.search(codes[:1], 9)[0]) == 2


def test_clients_of_other_packages_are_refused():
    with pytest.raises(InvalidInputError, match=r"the client is a dict; expected a connection of one of: lancedb"):
        create_table({}, "items", np.zeros((2, 2), np.uint8))
    package = pytest.importorskip("qdrant_client")
    client = package.AsyncQdrantClient(":memory:")
    with pytest.raises(InvalidInputError, match="the client is a AsyncQdrantClient; give the one of qdrant_client"):
        open_table(client, "items", 16)


# PostgreSQL


@pytest.fixture
def connection(postgres):
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres) as opened:
        yield opened
        opened.rollback()


def test_statements_of_postgresql_are_what_is_documented():
    assert pgvector_table.table_statement("items", 64, {"price": polars.Float64()}) == (
        'CREATE TABLE "items" (id bigint PRIMARY KEY, code bit(64) NOT NULL, "price" double precision)'
    )
    assert pgvector_table.put_statement("own.items", ["price"]) == (
        'INSERT INTO "own"."items" (id, code, "price") VALUES ($1, $2, $3) '
        'ON CONFLICT (id) DO UPDATE SET code = EXCLUDED.code, "price" = EXCLUDED."price"'
    )
    assert pgvector_table.search_statement("items", 64, approximate=True) == (
        'SELECT id, code <~> $1::bit(64) AS distance FROM "items" ORDER BY distance LIMIT $2'
    )


def test_the_graph_is_used(connection, sift_codes):
    codes, _ = sift_codes
    create_table(connection, "graph", codes, bits=60, approximate=True)
    connection.execute("ANALYZE graph")
    statement = pgvector_table.search_statement("graph", 60, approximate=True)
    plan = connection.execute("EXPLAIN " + statement.replace("$1", "repeat('1', 60)").replace("$2", "5")).fetchall()
    assert "Index Scan using graph_code_idx" in str(plan)


def test_bits_lie_in_postgresql_in_their_order(connection):
    bits = np.random.default_rng(0).random((3, 20)) < 0.5
    create_table(connection, "ordered", pack(torch.from_numpy(bits)), bits=20)
    stored = connection.execute("SELECT code::text FROM ordered ORDER BY id").fetchall()
    assert [row for (row,) in stored] == ["".join("01"[bit] for bit in row) for row in bits.astype(int)]


def test_a_table_is_part_of_the_callers_transaction(connection):
    codes = random_codes(3, 12)
    connection.execute("SELECT 1")
    table = create_table(connection, "undone", codes, bits=12)
    table.search(codes)
    assert connection.execute("SHOW enable_indexscan").fetchone() == ("on",)
    connection.rollback()
    with pytest.raises(InvalidInputError, match="undone does not exist"):
        open_table(connection, "undone", 12)


def test_rows_of_a_connection_can_be_dicts(connection):
    import psycopg

    connection.row_factory = psycopg.rows.dict_row
    codes = random_codes(3, 12)
    assert create_table(connection, "dicts", codes, bits=12).search(codes[:1], 1) == [[(0, 0)]]


def test_bounds_of_pgvector_s_graph_are_known(connection):
    codes = np.zeros((1, 8001), np.uint8)
    for settings, message in (
        ({}, "bits=64008; a graph of pgvector takes codes of up to 64000 bits"),
        ({"bits": 16, "links": 1}, "links=1; expected a whole number from 2 to 100"),
        ({"bits": 16, "links": 40}, "ef_construction=64; expected a whole number from 80 to 1000"),
    ):
        width = settings.get("bits", 64008) // 8
        with pytest.raises(InvalidInputError, match=message):
            create_table(connection, "graph", codes[:, :width], approximate=True, **settings)
    assert create_table(connection, "long", codes).search(codes, 1) == [[(0, 0)]]


# Qdrant


def test_the_quantised_bits_of_qdrant_are_the_code(sift_codes, tmp_path):
    """Qdrant's own engine ranks by the bits that its binary quantisation keeps, without the stored vectors."""
    edge = pytest.importorskip("qdrant_edge")
    codes, queries = sift_codes
    body = qdrant_collection.collection_body(60)
    assert body["quantization_config"] == {"binary": {"always_ram": True}}
    vectors = edge.EdgeVectorParams(
        size=body["vectors"]["size"],
        distance=getattr(edge.Distance, body["vectors"]["distance"]),
        datatype=getattr(edge.VectorStorageDatatype, body["vectors"]["datatype"].capitalize()),
        on_disk=True,
        quantization_config=edge.BinaryQuantizationConfig(always_ram=True),
    )
    optimizers = edge.EdgeOptimizersConfig(indexing_threshold=100)
    shard = edge.EdgeShard.create(str(tmp_path), edge.EdgeConfig(vectors=vectors, optimizers=optimizers))
    for block in Rows(codes, np.arange(len(codes)), None).split(2000):
        points = qdrant_collection.points_body(block, 60)["points"]
        shard.update(edge.UpdateOperation.upsert_points([edge.Point(**point) for point in points]))
    assert shard.optimize(), "quantises and builds the graph"
    true = compare(queries, codes)
    for rescore in (True, False):
        quantization = edge.QuantizationSearchParams(rescore=rescore)
        right = 0
        for query, distances in zip(queries, true, strict=True):
            asked = qdrant_collection.search_body(query, 60, 10, approximate=True)
            params = edge.SearchParams(hnsw_ef=asked["params"]["hnsw_ef"], quantization=quantization)
            request = edge.QueryRequest(limit=10, query=edge.Query.Nearest(asked["query"]), params=params)
            found = shard.query(request)
            if rescore:
                scored = [point.score / qdrant_collection.ONE for point in found]
                assert scored == [distances[point.id] for point in found]
            right += sum(distances[point.id] <= np.sort(distances)[9] for point in found)
        assert right >= 0.95 * 10 * len(queries)
    shard.close()


def test_words_become_permanent_ids_of_points():
    assert qdrant_collection.point_id(7) == 7
    assert qdrant_collection.point_id("a") == "824e2b48-ad1f-550e-89b6-4a08ea5d34ca"
    codes = np.zeros((1, 2), np.uint8)
    package = pytest.importorskip("qdrant_client")
    with pytest.raises(InvalidInputError, match="ids contain -1; Qdrant takes whole numbers from 0"):
        create_table(package.QdrantClient(":memory:"), "items", codes, ids=[-1])
    table = create_table(package.QdrantClient(":memory:"), "items", codes, ids=["a"])
    table.put(codes, [7])
    assert table.search(codes, 2) == [[(7, 0), ("a", 0)]]


# Milvus


def test_the_stand_in_of_milvus_has_the_parameters_of_its_client():
    package = pytest.importorskip("pymilvus")
    from stand_ins import Milvus

    for name in ("create_collection", "has_collection", "describe_collection", "insert", "upsert", "delete", "search"):
        real = inspect.signature(getattr(package.MilvusClient, name)).parameters
        assert inspect.signature(getattr(Milvus, name)).parameters.keys() <= real.keys()


def test_bytes_of_milvus_are_the_packed_code():
    codes = random_codes(2, 20)
    fields = milvus_collection.schema_fields(20, {"price": polars.Float64(), "day": polars.Date()}, words=True)
    assert [field["datatype"] for field in fields] == ["VARCHAR", "BINARY_VECTOR", "DOUBLE", "VARCHAR"]
    assert fields[1]["dim"] == 24
    rows = milvus_collection.entity_rows(Rows(codes, np.array(["a", "b"]), None))
    assert [np.frombuffer(row["code"], np.uint8).tolist() for row in rows] == codes.tolist()
    assert milvus_collection.index_settings(approximate=True, lists=9)["params"] == {"nlist": 9}


def test_texts_that_milvus_does_not_take_are_refused():
    pytest.importorskip("pymilvus")
    from stand_ins import Milvus

    columns = {"word": ["a", "ü" * 40_000]}
    with pytest.raises(InvalidInputError, match="column 'word' contains a text of 80000 bytes"):
        create_table(Milvus(), "items", np.zeros((2, 2), np.uint8), columns=columns)
    with pytest.raises(InvalidInputError, match="k=20000; expected a whole number from 1 to 16384"):
        create_table(Milvus(), "items", np.zeros((2, 2), np.uint8)).search(np.zeros((2, 2), np.uint8), 20_000)


# OpenSearch


def test_bodies_of_opensearch_are_json_of_signed_bytes():
    codes = random_codes(2, 20)
    body = opensearch_index.index_body(20, {"day": polars.Date(), "price": polars.Int8()}, approximate=True)
    assert json.loads(json.dumps(body))["mappings"]["properties"] == {
        "id": {"type": "long"},
        "code": {
            "type": "knn_vector",
            "dimension": 24,
            "data_type": "binary",
            "space_type": "hamming",
            "method": {"name": "hnsw", "engine": "faiss", "parameters": {"m": 16, "ef_construction": 100}},
        },
        "day": {"type": "date"},
        "price": {"type": "long"},
    }
    action, document = opensearch_index.bulk_lines("items", Rows(codes[:1], np.array([7]), None))
    assert action == {"index": {"_index": "items", "_id": "7"}}
    assert np.array(document["code"], np.int8).view(np.uint8).tolist() == codes[0].tolist()
    asked = opensearch_index.search_body(codes[1], 5, {"term": {"word": "a"}}, approximate=True)
    assert json.loads(json.dumps(asked))["query"]["knn"]["code"] == {
        "vector": codes[1].view(np.int8).tolist(),
        "k": 5,
        "filter": {"term": {"word": "a"}},
        "method_parameters": {"ef_search": 100},
    }


def test_scores_of_opensearch_give_every_distance():
    distances = np.arange(16_001)
    scores = np.float32(1) / (np.float32(1) + distances.astype(np.float32))
    assert [opensearch_index.distance_of(float(score)) for score in scores] == distances.tolist()


def test_an_item_that_opensearch_does_not_store_is_an_error():
    package = pytest.importorskip("opensearchpy")
    from stand_ins import OpenSearch

    client = package.OpenSearch("http://localhost:9200", connection_class=OpenSearch)
    table = create_table(client, "refused", np.zeros((2, 2), np.uint8))
    with pytest.raises(InvalidInputError, match=r"does not store the item '5'.*is not allowed"):
        table.put(np.zeros((1, 2), np.uint8), [5], {"price": [1.5]})
    with pytest.raises(InvalidInputError, match="bits=16008; OpenSearch takes codes of at most 16000 bits"):
        create_table(client, "long", np.zeros((1, 2001), np.uint8))
    with pytest.raises(InvalidInputError, match="contains NaN or infinity"):
        create_table(client, "nan", np.zeros((1, 2), np.uint8), columns={"price": [float("nan")]})
    with pytest.raises(InvalidInputError, match="contains numbers beyond int64"):
        create_table(client, "big", np.zeros((1, 2), np.uint8), columns={"price": np.array([2**63], np.uint64)})
    client.indices.delete(index="refused")
    assert OpenSearch.indices == {}
