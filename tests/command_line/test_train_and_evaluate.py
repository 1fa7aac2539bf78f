"""`train.py` and `evaluate.py` as a user types them: separate processes, exit codes, one-line errors, sweeps."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("method=pcah", "bits=16", "metrics.at=[10]", "logger=none", "hydra.run.dir=run")


def start(folder, program, *overrides, **environment):
    settings = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "160", **environment}
    return subprocess.Popen(
        [sys.executable, str(ROOT / program), *overrides],
        cwd=folder,
        env={name: value for name, value in settings.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, program, *overrides, **environment):
    process = start(folder, program, *overrides, **environment)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The README's job, with W&B as it is by default and no key."""
    folder = tmp_path_factory.mktemp("main")
    environment = {"WANDB_MODE": None, "WANDB_API_KEY": "", "NETRC": str(folder / "no-netrc")}
    status, out, err = run(folder, "train.py", "method=itq", "bits=64", **environment)
    assert status == 0, err
    return folder, out, err


def test_main_job_prints_its_result_and_its_folder(finished):
    folder, out, err = finished
    (run_folder,) = (path.parent for path in folder.glob("runs/mnist5k/*/*/metrics.json"))
    assert "Traceback" not in err
    assert "mAP" in out
    assert f"{metrics(run_folder)['mAP']:.4f}" in out
    assert str(run_folder.relative_to(folder)) in out.replace("\n", "")
    assert list(run_folder.glob("wandb/offline-run-*")), "W&B wrote no offline run"


def test_evaluation_reproduces_the_main_job(finished):
    folder, _, _ = finished
    (run_folder,) = (path.parent for path in folder.glob("runs/mnist5k/*/*/metrics.json"))
    status, out, err = run(folder, "evaluate.py", f"run={run_folder}")
    assert status == 0, err
    assert "The metrics equal those of the saved run exactly." in out
    assert out.startswith("itq · sbq, 64 bits, mnist5k\n")
    assert err == ""
    (again,) = run_folder.glob("evaluations/*")
    assert metrics(again) == metrics(run_folder)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["bits=0"], "error: bits=0; expected a whole number of at least 1."),
        pytest.param(
            ["bits=2000", "method=pcah"], "error: 2000 projections exceed the 784 directions", marks=pytest.mark.ci
        ),
        (["data=arrays", "data.features=nowhere.npy"], "nowhere.npy"),
        pytest.param(["method=itq", "projection.iterations=-1"], "iterations=-1", marks=pytest.mark.ci),
        pytest.param(["resume=nowhere"], "error: nowhere (looked up in ", marks=pytest.mark.ci),
        pytest.param(["+projection.rounds=3"], "rounds", marks=pytest.mark.ci),
        (["encoder@head=mlp"], "error: encoder@head=mlp sets layers after the features of a frozen pretrained network"),
        (["train.epochs=5"], "error: train.epochs is a setting of train=joint, and this run has train=fit;"),
    ],
)
def test_wrong_values_give_one_line(forked, tmp_path, overrides, line):
    status, _, err = forked(tmp_path, "train.py", *SMALL, *overrides)
    assert status == 2
    assert line in err
    assert "Traceback" not in err
    assert len([text for text in err.splitlines() if text.startswith("error:")]) == 1
    assert not (tmp_path / "run").exists(), "a folder without results was left behind"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["quantizer=mhq", "bits=13"], "error: bits=13 is not a multiple of the 2 bits per projection; give 12 or 14."),
        (["truth=epsilon_ball", "truth.neighbours=9999"], "error: truth.neighbours=9999 needs a training part of more"),
    ],
    ids=["before the logger starts", "after it"],
)
def test_wrong_values_give_one_line_beside_the_default_logger(forked, tmp_path, overrides, line):
    status, _, err = forked(tmp_path, "train.py", "method=pcah", "hydra.run.dir=run", *overrides)
    assert status == 2, err
    assert line in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists(), "a folder without results was left behind"


@pytest.mark.parametrize(
    ("program", "overrides", "line"),
    [
        ("train.py", ["method=itqq"], "method=itqq is unknown; did you mean itq?"),
        ("train.py", ["bitz=3"], "bitz=3: there is no setting bitz; did you mean bits?"),
        ("train.py", ["stream.kind=x"], "stream.kind=x: this run has no stream; add train=stream."),
        ("train.py", ["-m", "method=lsh,itqq"], "method=itqq is unknown; did you mean itq?"),
        ("train.py", ["-m", "bitz=3,4"], "bitz=3: there is no setting bitz; did you mean bits?"),
        ("train.py", ["bits=${nowhere}"], "Interpolation key 'nowhere' not found"),
        ("train.py", ["--foo"], "unrecognized arguments: --foo; type settings without dashes"),
        ("train.py", ["--cfg", "job", "method=itqq"], "method=itqq is unknown; did you mean itq?"),
        ("evaluate.py", [], "run is missing; type run=FOLDER"),
        ("evaluate.py", ["-m", "run=a,b"], "run=a,b names several runs"),
        ("evaluate.py", ["run=x", "truth=labels"], "truth=labels is unknown; did you mean label?"),
    ],
)
def test_wrong_names_give_one_line(forked, tmp_path, program, overrides, line):
    status, out, err = forked(tmp_path, program, *overrides)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {line}")
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_wrong_evaluation_gives_one_line(forked, tmp_path):
    status, _, err = forked(tmp_path, "evaluate.py", "run=nowhere")
    assert (status, "error: nowhere holds no config.yaml; give the folder of a run of train.py." in err) == (2, True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.ci
def test_killed_run_resumes(finished, forked, tmp_path):
    """Killed at once after its fit, a run continues with `resume=` and gives the figures of one never killed."""
    process = start(tmp_path, "train.py", "method=itq", "bits=64", "logger=none", "hydra.run.dir=run")
    fitted = tmp_path / "run" / "hasher" / "fit.json"
    deadline = time.monotonic() + 120
    while not fitted.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert fitted.exists()
    assert not (tmp_path / "run" / "metrics.json").exists()

    status, _, err = forked(tmp_path, "evaluate.py", "run=run")
    assert status == 2
    assert "finish it with: deephash train resume=run" in err

    status, _, err = forked(tmp_path, "train.py", "resume=run", "bits=8")
    assert status == 2
    assert "bits=8 cannot be set" in err

    status, _, err = run(tmp_path, "train.py", "resume=run", "logger=none")
    assert status == 0, err
    (whole,) = (path.parent for path in finished[0].glob("runs/mnist5k/*/*/metrics.json"))
    assert metrics(tmp_path / "run") == metrics(whole)


# More anchors than training items: the fit lowers their number, which the other process has to learn.
LOWERED = ("method=agh", "projection.anchors=1200", "protocol=five_way_small")


@pytest.mark.ci
def test_two_processes_give_the_figures_of_one(forked, tmp_path, monkeypatch):
    # As many threads in both: with all items as anchors, eigenvectors turn with the last digit of a sum.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = (*LOWERED, "bits=16", "metrics.at=[10,100]", "figures=false", "logger=none", "metrics.stable_order=true")
    assert forked(tmp_path, "train.py", *settings, "hydra.run.dir=one")[0] == 0
    status, out, err = run(tmp_path, "train.py", *settings, "trainer=ddp", "hydra.run.dir=two")
    assert status == 0, err
    assert metrics(tmp_path / "two") == metrics(tmp_path / "one")
    assert (tmp_path / "two" / "per_query.parquet").read_bytes() == (
        tmp_path / "one" / "per_query.parquet"
    ).read_bytes()
    assert out.count("mAP_worst") <= 1, "both processes printed the result"


@pytest.mark.ci
def test_sweep_ends_with_one_table_and_one_plot(forked, tmp_path):
    """Two methods at two code lengths, one of which a method cannot give: the table shows it as failed."""
    jobs = ("-m", "method=lsh,pcah", "bits=16,1000")
    sweep = (*jobs, "metrics.at=[10]", "figures=false", "logger=none", "hydra.sweep.dir=sweep")
    status, out, err = forked(tmp_path, "train.py", *sweep)
    assert status == 1, err
    assert "Traceback" not in err
    assert len(list(tmp_path.glob("sweep/*/metrics.json"))) == 3
    (failed,) = tmp_path.glob("sweep/*/error.json")
    assert "1000" in json.loads(failed.read_text())["error"]
    for name in ("sweep.csv", "sweep.md", "sweep.json", "sweep.png"):
        assert (tmp_path / "sweep" / name).stat().st_size > 0
    assert "lsh" in out
    assert "pcah" in out
    # The same sweep again runs only what has not ended well.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/metrics.json")}
    forked(tmp_path, "train.py", *sweep)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/metrics.json")} == before
