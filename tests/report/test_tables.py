"""Tables of results: cells, rows, and files in each format."""

import json

import polars
import pytest
import torch
from rich.console import Console

from deephash.report.tables import finite, flat_row, markdown_table, result_table, text, write_per_query, write_rows
from deephash.validation import InvalidInputError


def result(method="itq", bits=64, score=0.171234):
    return {
        "method": method,
        "quantizer": "sbq",
        "bits": bits,
        "data": "cifar10_gist",
        "protocol": "five_way",
        "truth": "label",
        "k": [100, 1000],
        "seed": 0,
        "metrics": {"mAP": score, "AUPRC_micro": float("nan")},
        "skipped_queries": 3,
        "warnings": ["dead bits: 1 of 64"],
    }


def shown(renderable):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(renderable)
    return console.export_text()


@pytest.mark.parametrize(
    ("value", "cell"),
    [(0.12345, "0.1235"), (7, "7"), (None, "–"), (float("nan"), "–"), ([100, 1000], "100, 1000"), ("itq", "itq")],
)
def test_cells(value, cell):
    assert text(value) == cell


def test_flat_row_names_the_whole_setting():
    assert list(flat_row(result()))[:8] == ["method", "quantizer", "bits", "data", "protocol", "truth", "k", "seed"]
    assert flat_row(result())["k"] == "100, 1000"
    assert flat_row(result())["mAP"] == 0.171234
    with pytest.raises(InvalidInputError, match=r"a result row has the keys \['bits'\]; expected metrics among them"):
        flat_row({"bits": 3})


def test_markdown_lines_up_and_escapes():
    table = markdown_table(("name", "mAP"), [("a|b\nc", 0.5), ("long name", None)], right=(1,))
    assert table.splitlines() == [
        "| name      |    mAP |",
        "| --------- | -----: |",
        "| a\\|b c    | 0.5000 |",
        "| long name |      – |",
    ]


def test_result_table_has_a_row_a_result():
    lines = shown(result_table([result(), result("lsh", 16, 0.1)], ["mAP"])).splitlines()
    header = next(line for line in lines if "method" in line)
    for name in ("method", "quantizer", "bits", "data", "protocol", "truth", "k", "seed", "mAP"):
        assert name in header
    assert sum("0.1712" in line and "itq" in line for line in lines) == 1
    assert sum("0.1000" in line and "lsh" in line for line in lines) == 1
    assert "AUPRC" not in "".join(lines)


def test_result_table_refuses_what_it_cannot_show():
    with pytest.raises(InvalidInputError, match=r"0 results; a table needs at least one"):
        result_table([])
    with pytest.raises(InvalidInputError, match=r"metric='map'; expected one of: AUPRC_micro, mAP"):
        result_table([result()], ["map"])


def test_rows_in_each_format(tmp_path):
    results = [result(), result("lsh", 16, 0.1)]
    frame = polars.read_csv(write_rows(tmp_path / "new" / "rows.csv", results))
    assert frame["mAP"].to_list() == [0.171234, 0.1]
    assert frame["method"].to_list() == ["itq", "lsh"]
    lines = write_rows(tmp_path / "rows.md", results).read_text().splitlines()
    assert len(lines) == 4
    assert "0.1712" in lines[2]
    assert "–" in lines[2]
    again = json.loads(write_rows(tmp_path / "rows.json", results).read_text())
    assert again[0]["metrics"] == {"mAP": 0.171234, "AUPRC_micro": None}
    assert again[1]["k"] == [100, 1000]
    assert not list(tmp_path.rglob("*.partial"))
    with pytest.raises(InvalidInputError, match=r"the ending of rows.xls='.xls'; expected one of: .csv, .json, .md"):
        write_rows(tmp_path / "rows.xls", results)


def test_per_query_scores(tmp_path):
    ids = torch.tensor([9, 4, 2])
    values = {"AP": torch.tensor([0.5, float("nan"), 1.0], dtype=torch.float64), "hits": torch.tensor([1, 0, 3])}
    frame = polars.read_parquet(write_per_query(tmp_path / "new" / "per_query.parquet", values, ids))
    assert frame.to_dict(as_series=False) == {"query": [9, 4, 2], "AP": [0.5, None, 1.0], "hits": [1, 0, 3]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["per_query.parquet"]
    with pytest.raises(InvalidInputError, match=r"per-query AP has shape \(3,\); expected one value for each of the 2"):
        write_per_query(tmp_path / "x.parquet", values, ids[:2])


def test_finite_reaches_every_level():
    value = {"a": [1.0, float("nan"), {"b": float("inf")}], "c": ("x", -float("inf"), 2)}
    assert finite(value) == {"a": [1.0, None, {"b": None}], "c": ["x", None, 2]}
