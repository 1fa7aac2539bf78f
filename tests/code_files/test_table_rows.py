"""Tables as rows: which line is the heading, which columns are features, and ids that keep their text."""

import gzip
import logging

import numpy as np
import polars
import pytest

from deephash.code_files.open_source import open_source
from deephash.validation import InvalidInputError

UNCLEAR = "give --no-header if it is a row, and --header if it names the columns"
BEYOND = 2**63


@pytest.fixture
def rows(tmp_path):
    """A function: content of a CSV file or a frame for a Parquet file → its features, ids and bad rows."""

    def read(content, **options):
        path = tmp_path / ("x.parquet" if hasattr(content, "columns") else "x.csv")
        if isinstance(content, polars.DataFrame):
            content.write_parquet(path)
        elif hasattr(content, "columns"):
            content.to_parquet(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        (block,) = open_source(path, tmp_path, **options).blocks(0, 1 << 20)
        return block.features.numpy(), list(block.ids), [(bad.row, bad.reason) for bad in block.bad]

    return read


@pytest.fixture
def written(tmp_path):
    """A function: an array → the bytes that `numpy.savetxt` writes."""

    def write(array, **options):
        np.savetxt(tmp_path / "x", array, **{"delimiter": ",", **options})
        return (tmp_path / "x").read_bytes()

    return write


@pytest.mark.parametrize(
    "content",
    [
        "0.5,0.25\n1,2\n",
        '"0.5","0.25"\n"1","2"\n',
        "\ufeff0.5,0.25\n1,2\n",
        "0.5,0.25\r\n1,2\r\n",
        "\n\n0.5,0.25\n1,2\n",
        "# made at noon\n0.5,0.25\n1,2\n",
        "# two\n# lines, of, comment\n0.5,0.25\n1,2\n",
        gzip.compress(b"0.5,0.25\n1,2\n", mtime=0),
    ],
)
def test_a_first_row_of_numbers_is_asked_about_and_read(content, rows):
    with pytest.raises(InvalidInputError, match=UNCLEAR):
        rows(content)
    features, ids, bad = rows(content, header=False)
    assert features.tolist() == [[0.5, 0.25], [1, 2]]
    assert (ids, bad) == ([0, 1], [])
    assert rows(content, header=True)[0].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "line", ["nan,inf", "1e5,-Infinity", "0,0", "0,1", "0.5,", ",0.5", "NA,0.5", "-1.,+.5", '"0,5","0,7"', "word,0.5"]
)
def test_a_first_line_that_may_be_a_row_is_asked_about(line, rows):
    with pytest.raises(InvalidInputError, match=UNCLEAR):
        rows(f"{line}\nw,2\n")


@pytest.mark.parametrize("line", ["a,b", "id,0.5", "name,0", "x1,1x", "1_000,b", "2 cm,0x1f"])
def test_a_first_line_of_names_is_a_heading(line, rows):
    assert len(rows(f"{line}\n1,2\n")[0]) == 1


def test_all_rows_of_savetxt_are_read(rows, written):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    with pytest.raises(InvalidInputError, match=UNCLEAR):
        rows(written(x))
    features, ids, _ = rows(written(x), header=False)
    assert np.array_equal(features, x)
    assert ids == list(range(50))
    named, _, _ = rows(written(x, header="a,b,c,d"))
    assert np.array_equal(named, x)
    with_ids = np.column_stack([np.arange(50) * 3, x])
    features, ids, _ = rows(written(with_ids, header="id,a,b,c,d", fmt=["%d", *["%.9g"] * 4]))
    assert np.array_equal(features, x)
    assert ids == list(range(0, 150, 3))


def test_columns_without_a_heading_are_called_by_their_places(rows):
    features, ids, _ = rows("first,1,2\nsecond,3,4\n", header=False, ids="0")
    assert (features.tolist(), ids) == ([[1, 2], [3, 4]], ["first", "second"])
    assert rows("7,1,2\n8,3,4\n", header=False, features=["2"])[0].tolist() == [[2], [4]]


@pytest.mark.parametrize("separator", [";", "\t", "|", " "])
def test_another_separator_is_named(separator, rows, written):
    for content in (written(np.eye(2), delimiter=separator), f"a{separator}b\n1{separator}2\n"):
        with pytest.raises(InvalidInputError, match="separates its columns by"):
            rows(content)
    with pytest.raises(InvalidInputError, match="separates its columns by ';'"):
        rows("0,5;0,7\n1,5;2,5\n")


def test_a_heading_is_for_csv_files_alone(rows):
    with pytest.raises(InvalidInputError, match=r"x.parquet is not a .csv file; leave --no-header out"):
        rows(polars.DataFrame({"0": [1.0]}), header=False)
    assert rows(polars.DataFrame({"0": [1.0], "1": [2.0]}))[0].tolist() == [[1, 2]]


def test_words_among_the_first_numbers_and_empty_tables_are_refused(rows):
    for cell in ("word", "true", '"1,5"'):
        with pytest.raises(InvalidInputError, match=f"column 'b' of .*x.csv holds '{cell.strip(chr(34))}'"):
            rows(f"a,b\n1,{cell}\n")
    assert rows("a,b\n1,nan\n2,NA\n3,\n4,5\n")[0].tolist() == [[4, 5]]
    for nothing in ("a,b\n", polars.DataFrame({"a": []}, schema={"a": polars.Float32})):
        with pytest.raises(InvalidInputError, match="has no rows; expected at least one item"):
            rows(nothing)
    with pytest.raises(InvalidInputError, match="UTF-16"):
        rows("a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(InvalidInputError, match="has 2 columns 'id'"):
        rows("id,a,id\n1,2,3\n")


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["00012", "00013"], ["00012", "00013"]),
        (["12", "13"], [12, 13]),
        (["-12", "0"], [-12, 0]),
        (["12", "013"], ["12", "013"]),
        (["+1", "2"], ["+1", "2"]),
        (["-0", "2"], ["-0", "2"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["1e3", "2"], ["1e3", "2"]),
        (["True", "2"], ["True", "2"]),
        (["2026-01-02", "2"], ["2026-01-02", "2"]),
        (['"7"', "8"], [7, 8]),
        ([f"{BEYOND - 1}", f"{-BEYOND}"], [BEYOND - 1, -BEYOND]),
        ([f"{BEYOND}", "1"], [f"{BEYOND}", "1"]),
        ([*map(str, range(150)), "word"], [*map(str, range(150)), "word"]),
        ([*map(str, range(150)), "007"], [*map(str, range(150)), "007"]),
    ],
)
def test_ids_are_numbers_only_where_these_give_the_same_text(texts, ids, rows):
    content = "id,a\n" + "".join(f"{text},1\n" for text in texts)
    assert rows(content)[1:] == (ids, [])
    assert rows(content.replace("id", "key"), ids="key")[1:] == (ids, [])


def test_rows_without_an_id_are_set_apart(rows):
    assert rows("id,a\n1,1\n,2\n3,3\n")[1:] == ([1, 3], [(1, "no id")])
    assert rows("id,a\nx,1\n,2\n3,3\n")[1:] == (["x", "3"], [(1, "no id")])


def test_ids_beyond_int64_are_refused_for_what_they_are(rows, tmp_path):
    pytest.importorskip("pyarrow")
    for kind in (polars.UInt64, polars.Int128):
        fits = polars.DataFrame({"id": polars.Series([1, BEYOND - 1], dtype=kind), "a": [1.0, 2.0]})
        assert rows(fits)[1] == [1, BEYOND - 1]
        with pytest.raises(InvalidInputError, match=f"hold {BEYOND}; whole numbers are from .* to {BEYOND - 1}"):
            rows(fits.with_columns(polars.col("id") + 1))
    (tmp_path / "folder").mkdir()
    table = polars.DataFrame({"id": polars.Series([1, BEYOND], dtype=polars.UInt64), "a": [1.0, 2.0]})
    table.write_parquet(tmp_path / "folder" / "0.parquet")
    with pytest.raises(InvalidInputError, match=f"hold {BEYOND}"):
        open_source(tmp_path / "folder", tmp_path)


@pytest.fixture
def frame():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    return pandas.DataFrame(np.arange(20.0).reshape(5, 4), columns=list("abcd"))


def test_the_index_of_pandas_is_no_feature(frame, rows, tmp_path, caplog):
    shuffled = frame.sample(frac=1, random_state=0)
    cases = {
        "__index_level_0__": shuffled,
        "key": shuffled.rename_axis("key"),
        "year, month": frame.assign(year=1, month=2).set_index(["year", "month"]),
    }
    for names, given in cases.items():
        caplog.clear()
        features, ids, _ = rows(given)
        assert np.array_equal(features, given[list("abcd")].to_numpy())
        assert ids == list(range(5))
        (line,) = caplog.messages
        assert f"{', '.join(map(repr, names.split(', ')))} left out (the index that pandas stored)" in line
    caplog.clear()
    for given in (frame, frame.rename_axis("key")):  # a range, which is no column
        assert np.array_equal(rows(given)[0], frame.to_numpy())
    assert not caplog.messages
    # What other programs keep of it: the column without what says so.
    shuffled.to_parquet(tmp_path / "y.parquet")
    assert rows(polars.read_parquet(tmp_path / "y.parquet"))[0].shape == (5, 4)
    (tmp_path / "folder").mkdir()
    for name in ("0.parquet", "1.parquet"):
        shuffled.rename_axis("key").to_parquet(tmp_path / "folder" / name)
    assert open_source(tmp_path / "folder", tmp_path).dimension == 4


def test_an_index_that_is_named_is_taken(frame, rows, caplog):
    given = frame.sample(frac=1, random_state=0).rename_axis("key")
    features, ids, _ = rows(given, ids="key")
    assert np.array_equal(features, given.to_numpy())
    assert ids == given.index.tolist()
    assert rows(given, features=["key", "a"])[0].tolist() == [
        [key, a] for key, a in zip(given.index, given.a, strict=True)
    ]
    assert rows(given.rename_axis("id"))[1] == given.index.tolist()
    assert not caplog.messages


def test_the_index_in_a_csv_file_is_no_feature(frame, rows, caplog):
    content = frame.to_csv()
    assert content.startswith(",a,b,c,d")
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(rows(content)[0], frame.to_numpy())
    assert "'Unnamed: 0' left out (the index that pandas stored)" in caplog.text
    assert rows(content, ids="Unnamed: 0")[1] == list(range(5))


def test_an_index_that_pandas_read_back_is_no_feature(frame, rows, caplog):
    again = frame.assign(**{"Unnamed: 0": range(5)})
    for content in (again.to_csv(index=False), again):
        caplog.clear()
        assert np.array_equal(rows(content)[0], frame.to_numpy())
        assert "'Unnamed: 0' left out (the index that pandas stored)" in caplog.text
    assert rows("a,,b\n1,2,3\n")[0].tolist() == [[1, 2, 3]]


def test_a_stray_quotation_mark_loses_no_row(rows):
    below = "".join(f"w{row},{row}\n" for row in range(10))
    for stray in ('5" pipe,1\n', '5" pipe,1\n6" pipe,2\n', '"x,1\n'):
        with pytest.raises(InvalidInputError, match=r"x.csv is not readable as .csv data"):
            rows(f"id,a\n{below}{stray}{below}")
    assert rows(f'id,a\n{below}"5"" pipe, new\nline",7\n')[1][-1] == '5" pipe, new\nline'


def test_blanks_around_numbers_are_no_part_of_them(rows):
    assert rows('a, b\n 1.5, 2 \n3 ," 4"\n')[0::2] == (pytest.approx(np.array([[1.5, 2], [3, 4]])), [])


def test_ids_in_capitals_are_no_feature(rows):
    for name in ("ID", "Id"):
        for content in (f"{name},a\n7,1\n8,2\n", polars.DataFrame({name: [7, 8], "a": [1.0, 2.0]})):
            features, ids, _ = rows(content)
            assert (features.tolist(), ids) == ([[1], [2]], [7, 8])
    assert rows("id,ID,a\n7,0,1\n")[1] == [7]


def test_ids_that_are_categories_are_words(rows):
    table = polars.DataFrame({"id": ["u", "v"], "a": [1.0, 2.0]})
    for kind in (polars.Categorical, polars.Enum(["v", "u"])):
        assert rows(table.with_columns(polars.col("id").cast(kind)))[1] == ["u", "v"]


def test_columns_that_are_named_twice_or_hold_no_numbers_are_refused(rows):
    for options in ({"features": ["a", "a"]}, {"features": ["a"], "ids": "a"}):
        for content in ("a,b\n1,2\n", polars.DataFrame({"a": [1], "b": [2]})):
            with pytest.raises(InvalidInputError, match=r"name column 'a' of .* twice; name it once"):
                rows(content, **options)
    for values in ([["1", "2"]], [[[1.0], [2.0]]], [{"x": 1.0}]):
        with pytest.raises(
            InvalidInputError, match=r"column 'a' .* is of type (List|Struct).*features are columns of num"
        ):
            rows(polars.DataFrame({"a": values}))
