"""Benchmarks write result files, from which pages are filled."""

import argparse
import json
import sys
from pathlib import Path

import pytest

from deephash.validation import InvalidInputError

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "studies"), str(ROOT / "benchmarks")]

import measurements  # noqa: E402
from page_tables import speed  # noqa: E402
from result_files import read_results  # noqa: E402


def test_measured_rows_are_read_as_results(tmp_path, monkeypatch):
    images = tmp_path / "cifar10.npz"
    images.touch()
    path = tmp_path / "times.json"
    words = [f"{tmp_path}/itq.py", "--images", str(images), "--rows", "10", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", words)
    measurements.write_measurements(path, [{"engine": "a", "seconds": 0.5}, {"engine": "b", "seconds": 2.0}], 2)
    found = read_results("times", tmp_path)
    assert found.commands == ["python benchmarks/itq.py --images cifar10.npz --rows 10"]
    assert found.find(engine="b") == [{"seed": 0, "engine": "b", "seconds": 2.0}]
    assert " 2 threads, " in found.machine
    assert ", load " in found.machine
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("rows", [[], [{"a": 1}, {"b": 1}]])
def test_rows_with_other_keys_are_rejected(tmp_path, rows):
    with pytest.raises(InvalidInputError, match="expected at least one, "):
        measurements.write_measurements(tmp_path / "a.json", rows, 1)


def test_a_result_file_is_checked_before_the_measurement(tmp_path):
    assert measurements.result_path(str(tmp_path / "a.json")) == tmp_path / "a.json"
    for wrong in (tmp_path / "a.txt", tmp_path / "none" / "a.json"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"expected a file that ends in \.json"):
            measurements.result_path(str(wrong))


def test_the_table_of_indexes_compares_minima_and_single_passes(tmp_path, monkeypatch):
    times = {
        (100, "flat"): [0.2, 0.1],
        (100, "FAISS"): [0.5, 0.2],
        (10, "mih"): [0.05, 0.06],
        (10, "flat"): [0.1, 0.09],
    }
    fields = ["seed", "codes", "k", "engine", "pass", "milliseconds"]
    runs = [[0, 1000, k, name, place, ms] for (k, name), values in times.items() for place, ms in enumerate(values)]
    content = {"name": "indexes", "commands": [], "commit": "", "date": "", "machine": "", "fields": fields}
    (tmp_path / "indexes.json").write_text(json.dumps(content | {"runs": runs}))
    monkeypatch.setattr(speed, "results", lambda name: read_results(name, tmp_path))
    lines = speed.indexes_table().splitlines()
    assert lines[0] == "| | 1,000 codes |"
    assert lines[2:] == [
        "| `flat`, 100 nearest | .1 ms |",
        "| FAISS's scan takes | 2.0 (2.0 to 2.5) times as long |",
        "| USearch's scan takes | not run |",
        "| `mih`, 10 nearest | .05 ms |",
        "| - against `flat` | 1.8 (1.5 to 2.0) times as fast |",
        "| FAISS's multi-hash at full recall, against `mih` | not run |",
    ]


def test_the_table_of_ranking_lists_every_rival(tmp_path, monkeypatch):
    fields = ["seed", "codes", "bits", "task", "rival", "milliseconds", "median", "rival_milliseconds", "rival_median"]
    runs = [
        [0, "random", 64, "histograms", "C", 11.0, 12.0, 9.9, 10.0],
        [0, "random", 64, "metrics", "NumPy float64", 15.0, 16.0, 2250.0, 2300.0],
        [0, "random", 64, "several labels", "-", 20.0, 21.0, None, None],
        [0, "skewed", 64, "top 100", "limit", 8.0, 8.0, 4.0, 4.0],
        [0, "skewed", 64, "histograms", "C", 1.0, 1.0, 4.0, 1.0],
        [0, "skewed", 64, "top 100", "FAISS", 8.0, 8.0, 100.0, 1.0],
        [0, "", 64, "large", "", 2000.0, 2000.0, None, None],
    ]
    content = {"name": "ranking", "commands": [], "commit": "", "date": "", "machine": "", "fields": fields}
    (tmp_path / "ranking.json").write_text(json.dumps(content | {"runs": runs}))
    monkeypatch.setattr(speed, "results", lambda name: read_results(name, tmp_path))
    assert speed.ranking_table().splitlines()[2:] == [
        "| distance histograms | 11 ms | a blocked popcount loop in C, `-O3 -march=native` | 9.9 ms | .90 |",
        "| mAP@all and AUPRC, relevance by label included | 15 ms | the same in float64 | 2,250 ms | 150 |",
    ]
    assert speed.ranking_lengths_table().splitlines()[2:] == ["| 64 | 8 ms | 12 | 2.00 | 1 ms | .25 |"]
    assert speed.ranking_time("large") == "2"
