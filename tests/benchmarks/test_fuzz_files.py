"""Random damage to every kind of file that the package reads; `benchmarks/fuzz_files.py` runs it for longer."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_files.py"


@pytest.mark.ci
@pytest.mark.needs("duckdb", "lancedb", "pyarrow", "usearch")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited as on Linux")
def test_a_thousand_damaged_files_are_read_or_refused():
    command = [sys.executable, str(SCRIPT), "--mutations", "1000", "--seed", "7", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "1000 mutations, 0 faults" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    assert len(rows) > 45, "a kind of file was not damaged"
    assert sum(int(row[-1]) for row in rows) > 500, "little damage was noticed"
    assert sum(int(row[-2]) for row in rows) > 50, "hardly a file could be read"
