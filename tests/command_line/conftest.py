"""A run on real digits, fitted once, and the program as a function."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def fitted_run(tmp_path_factory, compose_config) -> Path:
    """The folder of a run of ITQ on MNIST digits, 16 bits."""
    from deephash.command_line.programs.train import train

    folder = tmp_path_factory.mktemp("fitted") / "run"
    train(compose_config("method=itq", "bits=16", "figures=false", "metrics.at=[10]"), folder)
    return folder


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """The run's own features, float32 (5000, 784)."""
    from deephash.data.mnist5k import read_mnist_digits

    return read_mnist_digits()[0].astype(np.float32)


@dataclass
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(scope="session")
def deephash():
    """The program, run in this process: arguments → `Outcome`."""
    from deephash.command_line.main import main

    def run(*arguments) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("COLUMNS", "200")
            patch.setattr(sys, "argv", ["deephash", *map(str, arguments)])
            try:
                main()
                status = 0
            except SystemExit as end:
                status = end.code or 0
        return Outcome(status, out.getvalue(), err.getvalue())

    return run
