"""`deephash index` and `deephash search` on real codes."""

import numpy as np
import polars
import pytest
import torch

import deephash as package
from deephash.codes import unpack
from deephash.command_line.search import fold_neighbours
from deephash.hashers.loading import load


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, deephash, fitted_run, digits):
    """A folder with features, codes with ids of words, and an index of them."""
    folder = tmp_path_factory.mktemp("encoded")
    np.save(folder / "x.npy", digits[:1_000])
    names = [f"digit {row}" for row in range(1_000)]
    vectors = polars.Series(digits[:1_000], dtype=polars.Array(polars.Float32, digits.shape[1]))
    polars.DataFrame({"id": names, "vector": vectors}).write_parquet(folder / "x.parquet")
    assert deephash("encode", fitted_run, folder / "x.npy", folder / "numbers.npy").status == 0
    assert deephash("encode", fitted_run, folder / "x.parquet", folder / "words.parquet").status == 0
    assert deephash("index", folder / "words.parquet", folder / "index").out.startswith(
        f"{folder / 'index'}: flat index"
    )
    return folder


def nearest(run, digits, queries, k):
    """Distances and rows by comparing all bits, the lower row first among equals."""
    bits = unpack(load(run).encode(torch.from_numpy(digits[:1_000])), 16).int()
    distances = (bits[queries, None] != bits[None]).sum(2)
    ordered = (distances * 1_000 + torch.arange(1_000)).sort(1).values[:, :k]
    return ordered // 1_000, ordered % 1_000


def test_search_by_codes_and_by_features(deephash, encoded, fitted_run, digits, tmp_path):
    distances, rows = nearest(fitted_run, digits, torch.arange(1_000), 7)
    names = [[f"digit {row}" for row in row_of] for row_of in rows.tolist()]
    ended = deephash("search", encoded / "index", encoded / "numbers.npy", "-k", 7, "--out", tmp_path / "found.npz")
    assert ended.status == 0, ended.err
    with np.load(tmp_path / "found.npz", allow_pickle=False) as found:
        assert np.array_equal(found["queries"], np.arange(1_000))
        assert np.array_equal(found["distances"], distances)
        assert found["ids"].tolist() == names
    arguments = ("search", encoded / "index", encoded / "x.parquet", "-k", 7, "--run", fitted_run)
    assert deephash(*arguments, "--out", tmp_path / "found.parquet").status == 0
    table = polars.read_parquet(tmp_path / "found.parquet")
    assert table["query"].to_list() == [f"digit {row}" for row in range(1_000) for _ in range(7)]
    assert table["id"].to_list() == [name for row_of in names for name in row_of]
    assert table["rank"].to_list() == [1, 2, 3, 4, 5, 6, 7] * 1_000
    assert np.array_equal(table["distance"], distances.flatten())
    shown = deephash(*arguments)
    assert f"{names[0][0]} ({distances[0, 0]})" in shown.out
    assert "and 980 more queries" in shown.out
    assert deephash(*arguments, "--json").json[3] == {
        "query": "digit 3", "ids": names[3], "distances": distances[3].tolist()
    }  # fmt: skip


def test_an_index_in_shards_gives_the_same_answer(deephash, encoded, fitted_run, tmp_path):
    assert deephash("index", encoded / "numbers.npy", tmp_path / "whole").status == 0
    assert "in 3 shards" in deephash("index", encoded / "numbers.npy", tmp_path / "shards", "--shards", 3).out
    for asked in ((encoded / "numbers.npy",), (encoded / "x.npy", "--run", fitted_run)):
        whole, shards = (deephash("search", tmp_path / at, *asked, "-k", 400, "--json") for at in ("whole", "shards"))
        assert whole.json == shards.json
        assert len(shards.json) == 1_000
    described = deephash("info", tmp_path / "shards", "--json").json
    assert (described["what"], described["shards"], described["size"]) == ("index in shards", 3, 1_000)
    ended = deephash("search", tmp_path / "shards", encoded / "numbers.npy", "-k", 1_001)
    assert ended.status == 2
    assert "k=1001 exceeds the 1000 items" in ended.err


def test_index_of_a_runs_own_database(deephash, fitted_run, encoded, digits, tmp_path):
    ended = deephash("index", fitted_run, tmp_path / "own", "--kind", "mih", "--setting", "tables=2")
    assert "mih index of 4,000 codes of 16 bits" in ended.out
    assert package.load_index(tmp_path / "own").tables == 2
    (first,) = deephash("search", tmp_path / "own", encoded / "numbers.npy", "-k", 1, "--json").json[:1]
    split = np.load(fitted_run / "split.npz", allow_pickle=False)
    assert first["ids"][0] in split["database"]


def test_codes_of_another_hasher_are_refused(deephash, encoded, compose_config, tmp_path):
    from deephash.command_line.programs.train import train

    train(compose_config("method=lsh", "bits=16", "figures=false", "metrics.at=[10]"), tmp_path / "lsh")
    ended = deephash("search", encoded / "index", encoded / "x.npy", "--run", tmp_path / "lsh")
    assert ended.status == 2
    assert "the index holds codes of the hasher" in ended.err
    assert deephash("encode", tmp_path / "lsh", encoded / "x.npy", tmp_path / "other.npy").status == 0
    ended = deephash("search", encoded / "index", tmp_path / "other.npy")
    assert ended.status == 2
    assert "search with codes of the same hasher" in ended.err


def test_bad_queries_and_settings_are_refused(deephash, encoded, fitted_run, digits, tmp_path):
    x = digits[:3].copy()
    x[1, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    ended = deephash("search", encoded / "index", tmp_path / "x.npy", "--run", fitted_run)
    assert ended.err.startswith(f"error: query 1 of {tmp_path / 'x.npy'} cannot be encoded (value 1 is NaN")
    for arguments, words in (
        (["index", encoded / "numbers.npy", tmp_path / "i", "--kind", "nothing"], "kind='nothing'; expected one of:"),
        (["index", encoded / "numbers.npy", tmp_path / "i", "--setting", "tables"], "expected NAME=VALUE"),
        (["search", encoded / "index", encoded / "numbers.npy", "-k", 2_000], "k=2000 exceeds the 1000 items"),
        (["search", encoded / "index", encoded / "numbers.npy", "--out", "x.txt"], "expected one of: .npz, .parquet"),
    ):
        ended = deephash(*arguments)
        assert ended.status == 2
        assert words in ended.err


def test_queries_in_a_table_are_read_as_encode_reads_them(deephash, encoded, fitted_run, digits, tmp_path):
    np.savetxt(tmp_path / "q.csv", digits[:4], fmt="%g", delimiter=",")
    asked = ("search", encoded / "index", tmp_path / "q.csv", "-k", 1, "--run", fitted_run, "--json")
    ended = deephash(*asked)
    assert ended.status == 2
    assert "--no-header" in ended.err
    expected = nearest(fitted_run, digits, torch.arange(4), 1)[1].flatten().tolist()
    found = deephash(*asked, "--no-header").json
    assert [row["ids"] for row in found] == [[f"digit {row}"] for row in expected]
    table = {"key": ["a", "b"], "vector": digits[:2].tolist(), "more": [1.0, 2.0]}
    polars.DataFrame(table).write_parquet(tmp_path / "q.parquet")
    columns = ("--features", "vector", "--ids", "key")
    asked = ("search", encoded / "index", tmp_path / "q.parquet", "-k", 1, "--json", *columns)
    assert [row["query"] for row in deephash(*asked, "--run", fitted_run).json] == ["a", "b"]
    ended = deephash(*asked)
    assert "give --run, or leave out --features, --ids and --header" in ended.err


@pytest.mark.parametrize("name", ["names", "columns", "hasher"])
def test_what_is_no_setting_is_refused(deephash, encoded, tmp_path, name):
    ended = deephash("index", encoded / "numbers.npy", tmp_path / "index", "--kind", "flat", "--setting", f"{name}=1")
    assert ended.status == 2
    assert f"{name} is not a setting of kind=flat" in ended.err


def test_ids_are_a_column_of_a_database(deephash, encoded, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    from deephash.indexes.index_folder import engine_path

    assert deephash("index", encoded / "words.parquet", tmp_path / "index", "--kind", "duckdb").status == 0
    with duckdb.connect(str(engine_path(tmp_path / "index")), read_only=True) as database:
        stored = database.execute("SELECT name FROM codes ORDER BY id").fetchall()
    assert [name for (name,) in stored] == [f"digit {row}" for row in range(1_000)]


def test_lines_of_the_table_keep_ids_beside_their_distances():
    neighbours = [f"item {row} ({row % 7})" for row in range(40)]
    for width in (14, 33, 80):
        lines = fold_neighbours(neighbours, width).split("\n")
        assert [cell for line in lines for cell in line.split("  ")] == neighbours
        assert max(map(len, lines)) <= width
    assert fold_neighbours(["a long name (1)", "b (2)"], 4) == "a long name (1)\nb (2)"
