"""The benchmark of a GPU, run by Triton's interpreter on tiny tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "ranking_gpu.py"


@pytest.mark.ci
def test_the_benchmark_runs_interpreted(tmp_path):
    pytest.importorskip("triton")
    sizes = ["--bits", "8", "--sizes", "3x300", "--index-sizes", "200", "--repetitions", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", *sizes, "--json", str(tmp_path / "rows.json")],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    tasks = ["metrics", "top 100", "kind=gpu, top 100", "kind=gpu, top 100"]
    assert [row["task"] for row in rows] == tasks
    assert [(row["queries"], row["items"]) for row in rows] == [(3, 300), (3, 300), (1, 200), (200, 200)]
    assert all(row["Triton, ms"] > 0 for row in rows)
