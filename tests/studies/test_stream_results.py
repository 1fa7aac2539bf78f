"""Runs of streams are collected from the folders of their sweeps, and costs are interpolated."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

from page_tables.streams import interpolate_cost
from stream_results import read_run


def write_run(folder, **row):
    folder.mkdir(parents=True)
    content = {
        "method": "streaming_lda",
        "reencoding": "every",
        "stream": "recurring",
        "seed": 10,
        "metrics": {"area": 0.5, "mAP": 0.4, "reencoded_items": 7},
        "processor_seconds": {"learn": 1.5},
    }
    (folder / "metrics.json").write_text(json.dumps(content | row), encoding="utf-8")
    return folder / "metrics.json"


def test_a_cost_is_interpolated_and_none_beyond_the_curve():
    curve = [(0.0, 0.2), (10.0, 0.3), (40.0, 0.6)]
    assert interpolate_cost(curve, 0.45) == pytest.approx(25)
    assert interpolate_cost(curve, 0.1) == 0
    assert interpolate_cost(curve, 0.7) is None


def test_a_run_is_named_by_its_sweep(tmp_path):
    every = ["every", 1000, "recurring", 10, 0.5, 0.4, 7, 1.5]
    assert read_run(write_run(tmp_path / "policies" / "a", unlabelled=0.0)) == ["streaming_lda", *every]
    assert read_run(write_run(tmp_path / "priors" / "a", unlabelled=0.0)) == ["streaming_lda_priors", *every]
    assert read_run(write_run(tmp_path / "refit250" / "a", unlabelled=0.0))[2] == 250


def test_runs_of_the_former_order_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="encoded items after learning from them; run it again"):
        read_run(write_run(tmp_path / "policies" / "a"))
