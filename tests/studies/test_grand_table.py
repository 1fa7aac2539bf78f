"""The grand table continues with the cells that its result file lacks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import grand_table
from result_files import read_results, write_results


def test_the_first_draw_comes_first_and_done_cells_are_skipped():
    rows = list(grand_table.find_missing(set()))
    quick = [q for q in grand_table.GRAND_QUANTIZERS if q != "vbq_exact"]
    assert rows[0] == ("label", "lsh", quick, 32, 10)
    slow = [bool({method, *quantizers} & grand_table.SLOW) for _, method, quantizers, _, _ in rows]
    assert slow == sorted(slow)
    assert {(row[1], quantizer, *row[3:]) for row in rows for quantizer in row[2]} == {
        (method, quantizer, *part)
        for method in grand_table.GRAND_METHODS
        for quantizer in grand_table.GRAND_QUANTIZERS
        for part in grand_table.PARTS
    }
    parts = [row[3:] for row, late in zip(rows, slow, strict=True) if not late]
    assert list(dict.fromkeys(parts)) == list(grand_table.PARTS)
    done = {("label", "lsh", "sbq", 32, 10), ("label", "sklsh", "mhq", 16, 10)}
    left = list(grand_table.find_missing(done))
    assert "sbq" not in left[0][2]
    assert len(left) == len(rows)
    every = {("label", "lsh", q, 32, 10) for q in quick}
    assert list(grand_table.find_missing(every)) == rows[1:]


def test_runs_are_added_and_earlier_ones_kept(tmp_path, monkeypatch):
    fields = list(grand_table.FIELDS)
    monkeypatch.setattr(grand_table, "FOLDER", tmp_path)
    monkeypatch.setattr(grand_table, "read_results", lambda name: read_results(name, tmp_path))
    earlier = ["label", "lsh", "sbq", 32, 10, 0.1, 0.2]
    write_results(tmp_path / "grand_table.json", fields, [earlier], ["python train.py"], "a" * 40)
    new = ["label", "itq", "sbq", 32, 10, 0.3, 0.4]
    monkeypatch.setattr(grand_table, "gather_runs", lambda folder, fields: [new, [*earlier[:5], 0.9, 0.9]])
    assert grand_table.add_runs(tmp_path, "b" * 40) == 1
    assert read_results("grand_table", tmp_path).runs == [new, earlier]
