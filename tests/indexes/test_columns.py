"""Databases that store names and further columns beside codes: as given, after a save, in filters and in joins."""

import datetime
import json
import re

import numpy as np
import polars
import pytest
import torch

import deephash
from deephash.indexes.duckdb import code_words
from deephash.indexes.index_folder import engine_path
from deephash.indexes.pgvector import bit_strings
from deephash.validation import InvalidInputError

ROWS = 40
NAMES = np.array([f"{row:03d}" for row in range(ROWS)])
COLUMNS = {
    "price": np.arange(ROWS) / 2,
    "Colour": ["red", "it's"] * (ROWS // 2),
    "day": [datetime.date(2026, 1, 1 + row % 28) for row in range(ROWS)],
    "pieces": [*range(1, ROWS), None],
    "sold": [True, False] * (ROWS // 2),
}
LISTED = [(NAMES[row], *(list(column)[row] for column in COLUMNS.values())) for row in range(ROWS)]
WANTED = '"name", "price", "Colour", "day", "pieces", "sold"'


@pytest.fixture
def codes(clustered_codes):
    return clustered_codes(ROWS, 72, 0)


def scanned(codes, query, kept):
    """Names of the two nearest among the rows that are kept, by comparing bits."""
    distances = np.unpackbits(codes.numpy() ^ codes[query].numpy(), axis=1).sum(1)
    order = [row for row in np.argsort(distances, kind="stable") if row in kept]
    return NAMES[order[:2]].tolist()


def test_duckdb_keeps_them(codes, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    deephash.index(codes, "duckdb", bits=72, names=NAMES, columns=COLUMNS).save(tmp_path / "a")
    loaded = deephash.load_index(tmp_path / "a")
    assert loaded.named(loaded.search(codes[7:8], 1)[1]).tolist() == [["007"]]
    loaded.save(tmp_path / "b")  # what was loaded saves all of it again
    with duckdb.connect(str(engine_path(tmp_path / "b")), read_only=True) as database:
        assert database.execute(f"SELECT {WANTED} FROM codes ORDER BY id").fetchall() == LISTED
        words = database.execute("SELECT w0, w1 FROM codes ORDER BY id").fetchall()
        assert words == [tuple(row) for row in code_words(codes.numpy()).tolist()]
        found = database.execute(
            "SELECT name FROM codes WHERE Colour = 'red' AND price < 15 "
            "ORDER BY bit_count(xor(w0, ?::UBIGINT))::INTEGER + bit_count(xor(w1, ?::UBIGINT)), id LIMIT 2",
            words[6],
        ).fetchall()
    assert [name for (name,) in found] == scanned(codes, 6, range(0, 30, 2))


def test_lancedb_keeps_them(codes, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    deephash.index(codes, "lancedb", bits=72, names=NAMES, columns=COLUMNS).save(tmp_path / "a")
    deephash.load_index(tmp_path / "a").save(tmp_path / "b")
    table = lancedb.connect(engine_path(tmp_path / "b")).open_table("codes")
    stored = polars.from_arrow(table.to_arrow()).sort("id")
    assert stored.select("name", *COLUMNS).rows() == LISTED
    asked = table.search(codes[6].numpy(), vector_column_name="code").distance_type("hamming")
    (found,) = asked.where("price < 15", prefilter=True).limit(1).select(["name", "_distance"]).to_list()
    assert (found["name"], found["_distance"]) == ("006", 0)


def test_pgvector_keeps_them(codes, build, postgres, tmp_path):
    psycopg = pytest.importorskip("psycopg")
    index = build("pgvector", codes, 72, names=NAMES, columns=COLUMNS)
    index.save(tmp_path / "a")
    loaded = deephash.load_index(tmp_path / "a")
    assert loaded.named(loaded.search(codes[7:8], 1)[1]).tolist() == [["007"]]
    with psycopg.connect(postgres) as connection:
        assert connection.execute(f"SELECT {WANTED} FROM {index.table} ORDER BY id").fetchall() == LISTED
        stored = connection.execute(f"SELECT code::text FROM {index.table} ORDER BY id").fetchall()
        assert [code for (code,) in stored] == bit_strings(codes, 72)
        found = connection.execute(
            f"SELECT name FROM {index.table} WHERE price < 15 ORDER BY code <~> %s::bit(72), id LIMIT 2",
            (bit_strings(codes[6:7], 72)[0],),
        ).fetchall()
    assert [name for (name,) in found] == scanned(codes, 6, range(30))
    with pytest.raises(InvalidInputError, match="exists already with its columns; leave columns out"):
        deephash.index(codes, "pgvector", bits=72, dsn=postgres, table=index.table, existing=True, columns=COLUMNS)


@pytest.mark.parametrize("kind", ["duckdb", "lancedb", "pgvector"])
def test_whole_names_are_a_column_of_numbers(kind, codes, build, postgres, tmp_path):
    index = build(kind, codes, 72, names=np.arange(ROWS) * 3)
    if kind == "pgvector":
        import psycopg

        with psycopg.connect(postgres) as connection:
            stored = [name for (name,) in connection.execute(f"SELECT name FROM {index.table} ORDER BY id").fetchall()]
    elif kind == "duckdb":
        stored = [name for (name,) in index._connection.execute("SELECT name FROM codes ORDER BY id").fetchall()]
    else:
        stored = index._table.to_arrow()["name"].to_pylist()
    assert stored == list(range(0, 3 * ROWS, 3))


def test_frames_are_taken_and_a_nameless_index_left_out(codes):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    frame = pandas.DataFrame(COLUMNS).sample(frac=1, random_state=0)
    table = polars.DataFrame(COLUMNS)
    for given in (frame, table, table.to_arrow()):
        index = deephash.index(codes, "duckdb", bits=72, columns=given)
        described = index._connection.execute("DESCRIBE codes").fetchall()
        assert [name for name, *_ in described] == ["id", "w0", "w1", *COLUMNS]
        prices = index._connection.execute("SELECT price FROM codes ORDER BY id").fetchall()
        assert [price for (price,) in prices] == list(given["price"].to_numpy())


def test_a_rebuilt_database_keeps_names_and_tells_what_it_drops(codes, tmp_path, caplog):
    pytest.importorskip("duckdb")
    deephash.index(codes, "duckdb", bits=72, names=NAMES, columns=COLUMNS).save(tmp_path / "a")
    rebuilt = deephash.load_index(tmp_path / "a", engine="rebuild")
    assert "without its columns price, Colour, day, pieces, sold" in caplog.text
    assert rebuilt._connection.execute("SELECT name FROM codes WHERE id = 7").fetchall() == [("007",)]
    assert rebuilt.named(torch.tensor([7])).tolist() == ["007"]
    described = json.loads((tmp_path / "a" / "index.json").read_text())
    (tmp_path / "a" / "index.json").write_text(json.dumps({**described, "columns": 5}))
    with pytest.raises(InvalidInputError, match="has columns=5"):
        deephash.load_index(tmp_path / "a")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (5, "columns are a int; give a frame"),
        ("items.parquet", "columns are a str; give a frame"),
        ({"a": [1]}, "columns have 1 rows; expected 40"),
        ({"a": [1], "b": [1, 2]}, "columns are not a table"),
        ({"id": range(ROWS)}, "columns have the name 'id'; id, name, code, distance, w0"),
        ({"Distance": range(ROWS)}, "columns have the name 'Distance'"),
        ({"W0": range(ROWS)}, "columns have the name 'W0'"),
        ({"a": range(ROWS), "A": range(ROWS)}, "columns have the name 'A'"),
        ({"a": [[1]] * ROWS}, r"column 'a' is of type List\(Int64\)"),
    ],
)
def test_other_columns_are_refused(codes, columns, message):
    pytest.importorskip("duckdb")
    with pytest.raises(InvalidInputError, match=message):
        deephash.index(codes, "duckdb", bits=72, columns=columns)


@pytest.mark.parametrize("name", ["a.b", "a`b", "a\0b", "wide"])
def test_what_lancedb_does_not_take_is_refused_by_name(codes, name):
    pytest.importorskip("lancedb")
    columns = polars.DataFrame({name: range(ROWS)}, schema={name: polars.Int128 if name == "wide" else polars.Int64})
    with pytest.raises(InvalidInputError, match=rf"column.* {re.escape(repr(name))}.* LanceDB"):
        deephash.index(codes, "lancedb", bits=72, columns=columns)


def test_engine_path_is_of_engines_with_a_file(codes, tmp_path):
    deephash.index(codes, "flat", bits=72).save(tmp_path / "a")
    with pytest.raises(InvalidInputError, match="kind=flat, which has no engine file"):
        engine_path(tmp_path / "a")
