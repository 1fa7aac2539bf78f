"""Joint training in separate processes: two that share batches, and one that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from deephash.hashers.hasher import Hasher
from deephash.io.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "train=joint", "bits=8", "metrics.at=[10]", "figures=false", "logger=none", "protocol.queries=4000",
    "train.batch_size=128", "train.validate_every=2", "relaxation=tanh", "quantizer=mhq", "loss=ap",
)  # fmt: skip
NETWORK = ("encoder=mlp", "encoder.hidden=[32,16]", "encoder.dropout=0")


def start(folder, *overrides):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, *overrides):
    process = start(folder, *overrides)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


@pytest.mark.ci
def test_two_processes_give_the_gradients_of_one(forked, tmp_path):
    # Plain gradient descent: what differs in a gradient differs in the weights, and Adam's division hides nothing.
    descent = ("train.optimizer._target_=torch.optim.SGD", "train.optimizer.lr=0.3", "train.epochs=2")
    status, _, err = forked(tmp_path, "train.py", *SETTINGS, *descent, "trainer=cpu", "hydra.run.dir=one")
    assert status == 0, err
    run(tmp_path, *SETTINGS, *descent, "trainer=ddp", "hydra.run.dir=two")
    one, two = (Hasher.load(RunFolder(tmp_path / name).best).state_dict() for name in ("one", "two"))
    first = Hasher.load(RunFolder(tmp_path / "one").start).state_dict()
    for name in ("projection.directions", "quantizer.thresholds"):
        moved = (one[name] - first[name]).norm()
        assert moved > 1e-3, f"{name} did not move, so the comparison says nothing"
        assert (one[name] - two[name]).norm() < 1e-3 * moved, name


@pytest.mark.slow
@pytest.mark.parametrize("most", ["null", "0.05"], ids=["free", "clipped"])
def test_an_encoder_spread_over_two_processes_learns_what_one_does(tmp_path, most):
    descent = ("train.optimizer._target_=torch.optim.SGD", "train.optimizer.lr=0.3", "train.epochs=2", *NETWORK)
    descent = (*descent, f"trainer.gradient_clip_val={most}")
    run(tmp_path, *SETTINGS, *descent, "trainer=cpu", "hydra.run.dir=one")
    run(tmp_path, *SETTINGS, *descent, "trainer=fsdp", "hydra.run.dir=two")
    one, two = (Hasher.load(RunFolder(tmp_path / name).best).state_dict() for name in ("one", "two"))
    first = Hasher.load(RunFolder(tmp_path / "one").start).state_dict()
    for name in ("encoder.layers.0.weight", "encoder.layers.3.bias", "projection.directions", "quantizer.thresholds"):
        moved = (one[name] - first[name]).norm()
        assert moved > 1e-3, f"{name} did not move, so the comparison says nothing"
        assert (one[name] - two[name]).norm() < 1e-3 * moved, name


@pytest.mark.slow
def test_averaged_weights_of_a_spread_encoder_are_refused(tmp_path):
    averaging = "trainer.callbacks=[{_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.9}]"
    process = start(tmp_path, *SETTINGS, *NETWORK, "trainer=fsdp", averaging, "hydra.run.dir=run")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "error: trainer=fsdp cannot average weights" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "trainer",
    [
        pytest.param((), marks=pytest.mark.ci),
        pytest.param(("trainer=fsdp", *NETWORK), marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_resumes_to_the_same_weights(forked, tmp_path, trainer):
    status, _, err = forked(tmp_path, "train.py", *SETTINGS, *trainer, "train.epochs=8", "hydra.run.dir=whole")
    assert status == 0, err
    process = start(tmp_path, *SETTINGS, *trainer, "train.epochs=8", "hydra.run.dir=killed")
    killed = RunFolder(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not killed.checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for each in (process, *psutil.Process(process.pid).children()):
        each.send_signal(signal.SIGKILL)
    process.communicate()
    assert killed.checkpoint.exists()
    if killed.metrics.exists():
        pytest.fail("the run had ended before it was killed; raise train.epochs")
    run(tmp_path, "resume=killed")
    whole, resumed = (Hasher.load(tmp_path / name / "hasher").state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
