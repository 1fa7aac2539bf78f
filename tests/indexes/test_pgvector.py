"""PostgreSQL: an index in a user's own table: names, passwords, transactions."""

import json

import pytest

import deephash
from deephash.validation import InvalidInputError

pytest.importorskip("psycopg", reason="psycopg is not installed")

import psycopg

from deephash.indexes.pgvector import bit_strings, copy_rows, remove_password


def test_a_table_that_is_there_is_not_touched(build, postgres, clustered_codes):
    index = build("pgvector", clustered_codes(10, 12, 0), 12)
    with pytest.raises(InvalidInputError, match=f'relation "{index.table}" already exists'):
        deephash.index(clustered_codes(4, 12, 1), "pgvector", bits=12, dsn=postgres, table=index.table)
    with psycopg.connect(postgres) as connection:
        assert connection.execute(f"SELECT count(*) FROM {index.table}").fetchone() == (10,)


@pytest.mark.parametrize("name", ["codes; DROP TABLE users", 'a"b', "", "a.b.c", "1st", "x" * 64, "naïve", None])
def test_a_table_s_name_is_a_name(postgres, clustered_codes, name):
    with pytest.raises(InvalidInputError, match="expected a name of letters"):
        deephash.index(clustered_codes(4, 12, 1), "pgvector", bits=12, dsn=postgres, table=name)


def test_a_name_in_a_schema_with_capitals_is_kept_as_it_is(postgres, clustered_codes):
    codes = clustered_codes(20, 12, 0)
    with psycopg.connect(postgres) as connection:
        connection.execute('CREATE SCHEMA "Own"')
    try:
        index = deephash.index(codes, "pgvector", bits=12, dsn=postgres, table="Own.Codes", approximate=True)
        assert index.search(codes[:1], 1)[0].tolist() == [[0]]
    finally:
        with psycopg.connect(postgres) as connection:
            connection.execute('DROP SCHEMA "Own" CASCADE')


def test_the_graph_is_used_where_it_is_asked_for(build, postgres, clustered_codes):
    index = build("pgvector", clustered_codes(20_000, 64, 0), 64, approximate=True)
    with psycopg.connect(postgres) as connection:
        connection.execute(f"ANALYZE {index.table}")
        plan = connection.execute(
            f"EXPLAIN SELECT id FROM {index.table} ORDER BY code <~> repeat('1', 64)::bit(64) LIMIT 5"
        ).fetchall()
    assert "Index Scan" in str(plan)


def test_bits_lie_in_the_table_in_their_order(build, postgres, clustered_codes):
    codes = clustered_codes(5, 20, 0)
    index = build("pgvector", codes, 20)
    with psycopg.connect(postgres) as connection:
        stored = [row for (row,) in connection.execute(f"SELECT code::text FROM {index.table} ORDER BY id")]
    assert stored == bit_strings(codes, 20)
    assert len(copy_rows(codes.numpy(), 20, 0)) == 5 * (2 + 4 + 8 + 4 + 4 + 3)


def test_no_password_is_saved(build, postgres, clustered_codes, tmp_path):
    assert remove_password("postgresql://me:secret@host/items") == "user=me dbname=items host=host"
    index = build("pgvector", clustered_codes(10, 12, 0), 12)
    index.dsn = psycopg.conninfo.make_conninfo(index.dsn, password="secret")
    index.save(tmp_path)
    assert "secret" not in (tmp_path / "index.json").read_text()
    assert json.loads((tmp_path / "index.json").read_text())["settings"]["table"] == index.table
    assert len(deephash.load_index(tmp_path)) == 10


def test_a_table_that_was_changed_is_told(build, postgres, clustered_codes, tmp_path):
    index = build("pgvector", clustered_codes(10, 12, 0), 12)
    index.save(tmp_path)
    with psycopg.connect(postgres) as connection:
        connection.execute(f"DELETE FROM {index.table} WHERE id = 3")
    with pytest.raises(InvalidInputError, match="holds 9 codes of 12 to 12 bits; expected 10 of 12"):
        deephash.load_index(tmp_path)


def test_a_database_that_is_not_there_is_told_without_the_password(clustered_codes):
    with pytest.raises(InvalidInputError, match="PostgreSQL at") as told:
        deephash.index(
            clustered_codes(4, 12, 1), "pgvector", bits=12, dsn="host=127.0.0.1 port=1 password=secret dbname=x"
        )
    assert "secret" not in str(told.value)
    with pytest.raises(InvalidInputError, match="not a connection string") as told:
        deephash.index(clustered_codes(4, 12, 1), "pgvector", bits=12, dsn="password=secret what")
    assert "secret" not in str(told.value)
