"""A run on real digits, its database in shards, and commands in separate processes."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for fit_on_shares


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, compose_config) -> Path:
    """The folder of a run of ITQ on MNIST digits, 16 bits, with labels as the truth."""
    from deephash.command_line.programs.train import train

    folder = tmp_path_factory.mktemp("sharded") / "run"
    train(compose_config("method=itq", "bits=16", "figures=false", "metrics.at=[10,100]"), folder)
    return folder


@pytest.fixture(scope="session")
def shards_folder(run_folder) -> Path:
    """The run's queries and its database in five shards."""
    from deephash.cluster.run_shards import write_run_shards

    out = run_folder.parent / "shards"
    write_run_shards(run_folder, out, 5)
    return out


@pytest.fixture(scope="session")
def code_folder(tmp_path_factory) -> Path:
    """A database of 3,000 codes of 16 bits in five files, with ids that are not their rows, and queries."""
    import numpy as np

    from deephash.code_files.code_file import CodePaths, describe_codes
    from deephash.io.files import write_json
    from deephash.ranking.distance import Hamming

    folder, draw = tmp_path_factory.mktemp("codes"), np.random.default_rng(0)
    (folder / "database").mkdir()
    codes, ids = draw.integers(0, 256, (3_060, 2), np.uint8), draw.permutation(3_060)
    ends = [0, 400, 1_300, 1_301, 2_000, 3_000, 3_060]
    names = [*(f"database/shard-{number:05d}.npy" for number in range(5)), "queries.npy"]
    for name, (start, stop) in zip(names, pairwise(ends), strict=True):
        paths = CodePaths(folder / name)
        np.save(paths.codes, codes[start:stop])
        np.save(paths.ids, ids[start:stop])
        write_json(paths.description, describe_codes(paths, stop - start, 0, "drawn", Hamming(16), 16, "", "drawn"))
    return folder


@pytest.fixture(scope="session")
def command():
    """Run a command line in a separate process with one thread, which must succeed: arguments → its output."""

    def run(*arguments, status: int = 0, **environment) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return run
