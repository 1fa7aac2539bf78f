"""Commands under a real SLURM with two nodes on this machine; skipped if SLURM is not installed."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from slurm_cluster import slurm_cluster

from deephash.hashers.loading import load

PROGRAM = (sys.executable, "-m", "deephash.command_line.main")
FIT = ("method=itq", "bits=16", "figures=false", "logger=none", "metrics.at=[10]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in ("munged", "slurmctld", "slurmd", "srun")) or os.geteuid() != 0,
        reason="needs slurm-wlm and munge, and root to start them",
    ),
]


@pytest.fixture(scope="module")
def srun():
    """A command as tasks on two nodes, that must end well: tasks a node and arguments → what it printed."""
    with slurm_cluster(nodes=2, processors=2) as environment:

        def run(tasks, *arguments):
            done = subprocess.run(
                ["srun", "--nodes=2", f"--ntasks-per-node={tasks}", *map(str, arguments)],
                # Nodes of this machine have names of SLURM's alone, which the documented lines would look up.
                env={**environment, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


def test_tasks_score_what_one_process_does(srun, shards_folder, tmp_path):
    asked = ("score", shards_folder / "queries.npy", shards_folder / "database", "--at", "10", "--out")
    subprocess.run([*PROGRAM, *map(str, asked), str(tmp_path / "one")], check=True, capture_output=True)
    said = srun(2, *PROGRAM, *asked, tmp_path / "four")
    assert said.count("┃ metric") == 1, "more than one task prints"
    one, four = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "four"))
    assert (one.pop("workers"), four.pop("workers")) == (1, 4)
    one.pop("seconds"), four.pop("seconds")
    assert one == four


def test_a_run_on_two_nodes_is_that_of_one_process(srun, run_folder, tmp_path):
    trainer = ("trainer=ddp", "trainer.devices=1", "+trainer.num_nodes=2", f"hydra.run.dir={tmp_path}/two")
    srun(1, *PROGRAM, "train", *FIT, *trainer)
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (run_folder, tmp_path / "two"))
    assert load(tmp_path / "two").identity == load(run_folder).identity
    assert two["metrics"].items() <= one["metrics"].items()
