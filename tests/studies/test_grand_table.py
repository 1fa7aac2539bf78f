"""The grand table continues with the cells that its result file lacks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import grand_table
from result_files import read_results, write_results


def test_the_first_draw_comes_first_and_done_cells_are_skipped():
    rows = list(grand_table.find_missing(set()))
    assert rows[0] == ("label", "lsh", list(grand_table.GRAND_QUANTIZERS), 32, 10)
    assert [(bits, seed) for *_, bits, seed in rows[:: len(rows) // 5]][:5] == list(grand_table.PARTS)
    done = {("label", "lsh", "sbq", 32, 10), ("label", "sklsh", "mhq", 16, 10)}
    left = list(grand_table.find_missing(done))
    assert "sbq" not in left[0][2]
    assert len(left) == len(rows)
    every = {("label", "lsh", q, 32, 10) for q in grand_table.GRAND_QUANTIZERS}
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
