"""Cells, Markdown tables and scores by query."""

import polars
import pytest
import torch

from deephash.report.tables import format_value, markdown_table, replace_nonfinite, write_per_query
from deephash.validation import InvalidInputError


@pytest.mark.parametrize(
    ("value", "cell"),
    [(0.12345, "0.1235"), (7, "7"), (None, "–"), (float("nan"), "–"), ([100, 1000], "100, 1000"), ("itq", "itq")],
)
def test_cells(value, cell):
    assert format_value(value) == cell


def test_markdown_lines_up_and_escapes():
    table = markdown_table(("name", "mAP"), [("a|b\nc", 0.5), ("long name", None)], right=(1,))
    assert table.splitlines() == [
        "| name      |    mAP |",
        "| --------- | -----: |",
        "| a\\|b c    | 0.5000 |",
        "| long name |      – |",
    ]


def test_per_query_scores(tmp_path):
    ids = torch.tensor([9, 4, 2])
    values = {"AP": torch.tensor([0.5, float("nan"), 1.0], dtype=torch.float64), "hits": torch.tensor([1, 0, 3])}
    frame = polars.read_parquet(write_per_query(tmp_path / "new" / "per_query.parquet", values, ids))
    assert frame.to_dict(as_series=False) == {"query": [9, 4, 2], "AP": [0.5, None, 1.0], "hits": [1, 0, 3]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["per_query.parquet"]
    with pytest.raises(InvalidInputError, match=r"per-query AP has shape \(3,\); expected one value for each of the 2"):
        write_per_query(tmp_path / "x.parquet", values, ids[:2])


def test_nonfinite_values_are_replaced_at_every_level():
    value = {"a": [1.0, float("nan"), {"b": float("inf")}], "c": ("x", -float("inf"), 2)}
    assert replace_nonfinite(value) == {"a": [1.0, None, {"b": None}], "c": ["x", None, 2]}
