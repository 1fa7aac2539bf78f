"""`deephash index add`, `update`, `remove` and `compact` on real codes, and the short form of `build`."""

import numpy as np
import polars
import pytest

import deephash as package


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, deephash, fitted_run, digits):
    """A folder with codes of digits in three files, with ids of words and of row numbers."""
    folder = tmp_path_factory.mktemp("encoded")
    for name, rows in (("first", range(300)), ("second", range(300, 500)), ("changed", range(290, 300))):
        vectors = polars.Series(digits[list(rows)], dtype=polars.Array(polars.Float32, digits.shape[1]))
        table = polars.DataFrame({"id": [f"digit {row}" for row in rows], "vector": vectors})
        table.write_parquet(folder / f"{name}.parquet")
        np.save(folder / f"{name}.npy", digits[list(rows)])
        assert deephash("encode", fitted_run, folder / f"{name}.parquet", folder / f"{name}_words.npy").status == 0
        assert deephash("encode", fitted_run, folder / f"{name}.npy", folder / f"{name}_rows.npy").status == 0
    return folder


@pytest.mark.parametrize("kind", ["flat", "mih"])
def test_an_index_changes_and_is_searched(deephash, encoded, tmp_path, kind):
    index = tmp_path / "index"
    assert deephash("index", "--kind", kind, encoded / "first_words.npy", index).status == 0
    assert (
        deephash("index", "add", index, encoded / "second_words.npy").out == f"{index}: added 200 codes; 500 in all\n"
    )
    ended = deephash("index", "remove", index, "digit 7", "digit 444")
    assert ended.out == f"{index}: removed 2 items; 498 are left\n"
    (tmp_path / "gone.txt").write_text("digit 8\r\ndigit 9\n")
    assert "removed 2 items; 496 are left" in deephash("index", "remove", index, "--names", tmp_path / "gone.txt").out
    ended = deephash("index", "update", index, encoded / "changed_words.npy")
    assert ended.out == f"{index}: replaced 10 codes; 496 in all\n"
    asked = ("search", index, encoded / "second_words.npy", "-k", 3, "--json")
    before = deephash(*asked).json
    assert deephash("info", index, "--json").json["size"] == 496
    assert deephash("index", "compact", index).out == f"{index}: 496 codes, with an empty log\n"
    assert deephash(*asked).json == before
    assert {"digit 7", "digit 8", "digit 9", "digit 444"}.isdisjoint(package.load_index(index).names.tolist())
    assert before[0]["distances"][0] == 0
    described = deephash("info", index, "--json").json
    assert described["size"] == 496


def test_items_without_names_are_called_by_their_numbers(deephash, encoded, tmp_path):
    index = tmp_path / "index"
    assert deephash("index", "build", encoded / "first_rows.npy", index).status == 0
    assert "500 in all" in deephash("index", "add", index, encoded / "second_rows.npy").out
    assert "498 are left" in deephash("index", "remove", index, "499", "0").out
    assert package.load_index(index).ids.tolist() == list(range(1, 499))
    ended = deephash("index", "remove", index, "seven")
    assert (ended.status, "called by numbers; 'seven' is not one" in ended.err) == (2, True)
    ended = deephash("index", "add", index, encoded / "second_words.npy")
    assert (ended.status, "has no names, so that its items are numbered as they are added" in ended.err) == (2, True)


def test_names_are_given_in_a_file(deephash, encoded, tmp_path):
    index = tmp_path / "index"
    assert deephash("index", encoded / "first_words.npy", index).status == 0
    np.save(tmp_path / "names.npy", np.array([f"again {row}" for row in range(10)]))
    assert (
        "310 in all"
        in deephash("index", "add", index, encoded / "changed_words.npy", "--names", tmp_path / "names.npy").out
    )
    assert package.load_index(index).names.tolist()[-1] == "again 9"


def test_what_does_not_fit_is_refused_in_one_line(deephash, encoded, fitted_run, tmp_path):
    index, shards = tmp_path / "index", tmp_path / "shards"
    assert deephash("index", encoded / "first_words.npy", index).status == 0
    assert deephash("index", encoded / "first_words.npy", shards, "--shards", 2).status == 0
    stored = package.load_index(index)
    package.index(stored.codes, "flat", bits=stored.bits, names=stored.names).save(tmp_path / "other")
    for arguments, message in [
        (("add", index, encoded / "first_words.npy"), "the index contains 'digit 0' already; update it"),
        (("add", tmp_path / "other", encoded / "second_words.npy"), "and .* those of None; encode with the same"),
        (("add", shards, encoded / "first_words.npy"), "the index contains 'digit 0' already; update it"),
        (("add", tmp_path / "nowhere", encoded / "second_words.npy"), "does not exist"),
        (("update", index, encoded / "second_words.npy"), "that the index does not contain"),
        (("remove", index), "no names are given; give the names of the items to remove, or --names FILE"),
        (("remove", index, "digit 999"), "'digit 999' that the index does not contain"),
        (("remove", index, "--names", encoded / "first.parquet"), "is not readable as names"),
        (("remove", shards, "digit 999"), "'digit 999' that the index does not contain"),
    ]:
        ended = deephash("index", *arguments)
        assert ended.status == 2
        assert len(ended.err.strip().splitlines()) == 1, ended.err
        assert __import__("re").search(message, ended.err), ended.err
    assert len(package.load_index(index)) == 300


def test_help_lists_the_commands_and_a_file_may_be_called_like_one(deephash, encoded, tmp_path, monkeypatch):
    listed = deephash("index", "--help").out
    assert all(command in listed for command in ("build", "add", "update", "remove", "compact"))
    for part in ("", ".ids"):
        (tmp_path / f"add{part}.npy").write_bytes((encoded / f"first_words{part}.npy").read_bytes())
    described = (encoded / "first_words.json").read_text().replace("first_words.npy", "add.npy")
    (tmp_path / "add.json").write_text(described)
    assert deephash("index", tmp_path / "add.npy", tmp_path / "out").status == 0


def test_columns_come_from_a_table(deephash, encoded, tmp_path):
    index, table = tmp_path / "index", tmp_path / "items.parquet"
    rows = list(range(499, -1, -1))  # In another order, with rows of items that the index does not have.
    polars.DataFrame({"name": [f"digit {row}" for row in rows], "half": [row / 2 for row in rows]}).write_parquet(table)
    assert deephash("index", encoded / "first_words.npy", index, "--columns", table).status == 0
    assert "500 in all" in deephash("index", "add", index, encoded / "second_words.npy", "--columns", table).out
    in_order = tmp_path / "changed.csv"
    in_order.write_text("half\n" + "\n".join(["-1.5"] * 10) + "\n")
    assert deephash("index", "update", index, encoded / "changed_words.npy", "--columns", in_order).status == 0
    loaded = package.load_index(index)
    found = loaded.named(loaded.search(loaded.item_codes[:1], 3, where="half > 249")[1])[0]
    assert set(found.tolist()) == {"digit 499", ""}
    negative = loaded.named(loaded.search(loaded.item_codes[:1], 11, where="half < 0")[1])[0]
    assert set(negative.tolist()) == {*(f"digit {row}" for row in range(290, 300)), ""}
    (tmp_path / "short.csv").write_text("name,half\ndigit 3,1\n")
    (tmp_path / "twice.csv").write_text("id,half\ndigit 3,1\ndigit 3,2\n")
    (tmp_path / "three.csv").write_text("half\n1\n2\n3\n")
    for name, message in [
        ("short.csv", "column 'name' of .*short.csv lacks 'digit 0'; give each item a row"),
        ("twice.csv", "column 'id' of .*twice.csv contains 'digit 3' twice"),
        ("three.csv", "columns have 3 rows; expected 300"),
        ("absent.csv", "absent.csv does not exist"),
        ("first.txt", "first.txt is not a table; give a file that ends with .parquet"),
    ]:
        ended = deephash("index", encoded / "first_words.npy", tmp_path / "new", "--columns", tmp_path / name)
        assert (ended.status, len(ended.err.strip().splitlines())) == (2, 1), ended.err
        assert __import__("re").search(message, ended.err), ended.err
        assert not (tmp_path / "new").exists()
    ended = deephash("index", encoded / "first_words.npy", tmp_path / "new", "--columns", table, "--shards", 2)
    assert "an index in shards has no columns" in ended.err


def test_a_search_is_filtered_by_a_condition_or_by_names(deephash, encoded, fitted_run, tmp_path):
    index, table = tmp_path / "index", tmp_path / "items.parquet"
    polars.DataFrame({"half": [row / 2 for row in range(300)]}).write_parquet(table)
    assert deephash("index", encoded / "first_words.npy", index, "--columns", table).status == 0
    loaded = package.load_index(index)
    queries = package.load_index(index).item_codes[290:]
    by_codes = ("search", index, encoded / "changed_words.npy", "-k", 4)
    by_features = ("search", index, encoded / "changed.parquet", "-k", 4, "--features", "vector", "--run", fitted_run)
    for where in ("half < 20 AND name <> 'digit 3'", "half < 1", "half > 1000", "id BETWEEN 5 AND 80"):
        distances, ids = loaded.search(queries, 4, where=where)
        wanted = [
            {"query": f"digit {290 + row}", "ids": names, "distances": near}
            for row, (names, near) in enumerate(zip(loaded.named(ids).tolist(), distances.tolist(), strict=True))
        ]
        for asked in (by_codes, by_features):
            assert deephash(*asked, "--where", where, "--json").json == wanted
    shown = deephash(*by_codes, "--where", "half < 1").out
    assert (shown.count("digit 0 ("), shown.count("digit 1 ("), "(17)" in shown) == (10, 10, False)
    (tmp_path / "names.txt").write_text("digit 7\ndigit 9\ndigit 11\n")
    distances, ids = loaded.search(queries, 3, where=["digit 7", "digit 9", "digit 11"])
    found = deephash(*by_codes[:3], "-k", 3, "--names", tmp_path / "names.txt", "--json").json
    assert [each["ids"] for each in found] == loaded.named(ids).tolist()
    (tmp_path / "unknown.txt").write_text("digit 999\n")
    assert deephash("index", encoded / "first_words.npy", tmp_path / "shards", "--shards", 2).status == 0
    for arguments, message in [
        ((*by_codes, "--where", "cost < 3"), "where='cost < 3' is not a condition on id, name, half"),
        ((*by_codes, "--where", "half <"), "is not a condition"),
        ((*by_codes, "--names", tmp_path / "unknown.txt"), "'digit 999' that the index does not contain"),
        ((*by_codes, "--names", tmp_path / "absent.txt"), "absent.txt does not exist"),
        ((*by_codes, "--names", tmp_path / "names.txt", "--where", "half < 1"), "--where and --names are two filters"),
        (("search", tmp_path / "shards", *by_codes[2:], "--where", "half < 3"), "is not a condition on id, name"),
    ]:
        ended = deephash(*arguments)
        assert (ended.status, len(ended.err.strip().splitlines()), message in ended.err) == (2, 1, True), ended.err


def test_an_index_in_shards_changes_like_a_whole_one(deephash, encoded, tmp_path):
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    assert deephash("index", "--kind", "flat", encoded / "first_words.npy", whole).status == 0
    assert deephash("index", "--kind", "flat", encoded / "first_words.npy", shards, "--shards", 3).status == 0
    changes = [
        ("add", encoded / "second_words.npy"),
        ("remove", "digit 7", "digit 444"),
        ("update", encoded / "changed_words.npy"),
        ("compact",),
    ]
    for command, *arguments in changes:
        told = [deephash("index", command, index, *arguments).out.split(": ")[1] for index in (whole, shards)]
        assert told[0] == told[1]
        sizes = [deephash("info", index, "--json").json["size"] for index in (whole, shards)]
        assert sizes[0] == sizes[1]
        for where in ((), ("--where", "id > 20 AND name <> 'digit 295'")):
            asked = (encoded / "second_words.npy", "-k", 5, "--json", *where)
            found = [deephash("search", index, *asked).json for index in (whole, shards)]
            assert found[0] == found[1]


def test_a_recall_tries_approximate_kinds(deephash, encoded, tmp_path):
    ended = deephash("index", encoded / "first_words.npy", tmp_path / "index", "--recall", 0.9)
    assert ended.status == 0
    assert "recall  ms/query" in ended.out.splitlines()[0]
    assert "chosen" in ended.out
    ended = deephash("index", encoded / "first_words.npy", tmp_path / "index", "--recall", 2)
    assert (ended.status, "recall=2.0; expected a number above 0 and at most 1" in ended.err) == (2, True)
