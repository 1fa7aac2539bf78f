"""The program itself: quick to start, one line for an error, a version, completion."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deephash as package

PROGRAM = Path(sys.executable).with_name("deephash")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['deephash', '--help']\n"
        "from deephash.command_line.main import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'hydra', 'polars', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Exit status" in done.stdout


@pytest.fixture(scope="module")
def index_of_codes(deephash, fitted_run, digits, tmp_path_factory):
    """A folder with digits, their codes and an index of these."""
    folder = tmp_path_factory.mktemp("index")
    np.save(folder / "digits.npy", digits[:50])
    assert deephash("encode", fitted_run, folder / "digits.npy", folder / "codes.npy").status == 0
    assert deephash("index", folder / "codes.npy", folder / "index").status == 0
    return folder


def test_commands_import_nothing_that_they_do_not_need(fitted_run, index_of_codes):
    """Each import takes as long as the command itself, or several times as long."""
    folder = index_of_codes
    commands = {  # In this order, since one process runs them all.
        f"encode {fitted_run} {folder}/digits.npy {folder}/again.npy": "hydra omegaconf",
        f"search {folder}/index {folder}/codes.npy -k 2": "hydra omegaconf",
        f"search {folder}/index {folder}/digits.npy --run {fitted_run} -k 2": "hydra omegaconf",
        f"info {folder}/index": "",
        f"info {fitted_run}": "",
    }
    code = (
        "import sys\n"
        "from deephash.command_line.main import main\n"
        f"for command, names in {commands}.items():\n"
        "    sys.argv = ['deephash', *command.split()]\n"
        "    main()\n"
        "    names = {*names.split(), *'lightning numba scipy sklearn torchvision matplotlib wandb faiss'.split()}\n"
        "    assert not names & sys.modules.keys(), (command, names & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_waiting_threads_do_not_spin(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code = "import sys, os\nimport deephash.command_line.main\nprint(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = os.environ | ({"OMP_WAIT_POLICY": given} if given else {})
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected]


def test_every_command_has_help(deephash):
    from deephash.command_line.main import app

    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert {"train", "evaluate", "encode"} <= set(names)
    for name in set(names) - {"train", "evaluate"}:
        shown = deephash(name, "--help")
        assert shown.status == 0
        assert f"deephash {name}" in shown.out


def test_version(deephash):
    assert deephash("--version").out == f"deephash {package.__version__}\n"


def test_wrong_usage_has_status_2(deephash):
    for arguments in (["encode"], ["nothing"], ["encode", "run", "x.npy", "y.npy", "--rows", "0"]):
        assert deephash(*arguments).status == 2


def test_wrong_input_is_one_line(deephash, tmp_path):
    ended = deephash("encode", tmp_path / "nowhere", "x.npy", tmp_path / "codes.npy")
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith(f"error: {tmp_path / 'nowhere'} does not exist")
    assert ended.err.count("\n") == 1


def test_shell_completion_knows_the_commands():
    asked = {**os.environ, "_DEEPHASH_COMPLETE": "complete_bash", "COMP_WORDS": "deephash enc", "COMP_CWORD": "1"}
    done = subprocess.run([str(PROGRAM)], env=asked, capture_output=True, text=True)
    assert done.stdout.split() == ["encode"]
