"""Fits of several processes on shares of the rows give the weights of one process on all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fit_on_shares import digits, methods

from deephash.command_line.programs.train import train
from deephash.functional.row_shares import (
    broadcast_first,
    count_rows,
    gather_rows,
    local_rows,
    max_over_processes,
    min_over_processes,
    row_shares,
    sum_over_processes,
)
from deephash.hashers.loading import load
from deephash.training.fit_module import SHARED_ROWS

SCRIPT = Path(__file__).with_name("fit_on_shares.py")
WORLD = 3


@pytest.fixture(scope="module")
def on_shares(tmp_path_factory):
    """Folder of what each of three processes fitted."""
    folder = tmp_path_factory.mktemp("shares")
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(WORLD), str(folder / "meeting"), str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    return folder


@pytest.fixture(scope="module")
def alone():
    features, labels = digits()
    return methods(features, labels, range(len(features)))


@pytest.mark.ci
@pytest.mark.parametrize("name", ["PCAH", "ITQ", "SH", "ITQCCA", "AGH", "SGH", "SDH", "CVH"])
def test_three_processes_fit_what_one_does(name, on_shares, alone):
    shared = [load(on_shares / f"{name}-{rank}").state_dict() for rank in range(WORLD)]
    for key, expected in alone[name].state_dict().items():
        assert all(torch.equal(shared[0][key], other[key]) for other in shared[1:]), f"{key} differs between processes"
        gap = (shared[0][key].double() - expected.double()).norm()
        assert gap <= 1e-5 * expected.double().norm().clamp_min(1e-300), key


def test_shares_alone_would_fit_something_else(alone):
    features, labels = digits()
    first = methods(features, labels, range(len(features) // WORLD))
    for name in ("PCAH", "ITQ"):
        one, other = first[name].projection.directions, alone[name].projection.directions
        assert (one - other).norm() > 1e-2 * other.norm()


def test_a_process_that_has_all_rows_needs_no_others():
    sums = torch.arange(3.0)
    assert sum_over_processes(sums) is sums
    assert min_over_processes(sums) is sums
    assert max_over_processes(sums) is sums
    assert broadcast_first(sums) is sums
    assert count_rows(torch.zeros(5, 2)) == 5
    assert local_rows(torch.zeros(5, 2)) == slice(0, 5)
    assert torch.equal(gather_rows(sums[:, None], torch.tensor([2, 0])), torch.tensor([[2.0], [0.0]]))
    with pytest.raises(ValueError, match="process group has not been initialized"), row_shares():
        sum_over_processes(sums)
    assert sum_over_processes(sums) is sums


@pytest.mark.ci
def test_two_processes_of_the_trainer_share_a_large_fit(tmp_path, command, compose_config):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, SHARED_ROWS + 500)
    features = draw.normal(size=(len(labels), 8)) * np.linspace(3, 1, 8) + labels[:, None]
    np.save(tmp_path / "x.npy", features.astype(np.float32))
    np.save(tmp_path / "y.npy", labels)
    data = ("data=arrays", f"data.features={tmp_path}/x.npy", f"data.labels={tmp_path}/y.npy", "protocol.queries=100")
    settings = ("method=itq", "bits=6", *data, "metrics.at=[10]", "figures=false", "logger=none")
    train(compose_config(*settings[:-1]), tmp_path / "one")
    command("deephash.command_line.programs.train", *settings, "trainer=ddp", f"hydra.run.dir={tmp_path}/two")
    one, two = (load(tmp_path / name).projection for name in ("one", "two"))
    assert (
        "rows 0 to 49152 of 100400 are this process's share of the fit" in (tmp_path / "two" / "train.log").read_text()
    )
    assert (one.directions - two.directions).norm() < 1e-5 * one.directions.norm()
