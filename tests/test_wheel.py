"""The built wheel works outside a clone, with the configuration files that it carries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel is installed into, without its dependencies, which come from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


def run(installed, folder, *command):
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "160"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.ci
def test_package_and_configuration_come_from_the_wheel(installed, tmp_path):
    code = (
        "import deephash; from deephash.io.configuration import find_configuration_folder;"
        "print(deephash.__file__, find_configuration_folder())"
    )
    done = run(installed, tmp_path, sys.executable, "-c", code)
    assert done.stdout.split() == [str(installed / "deephash" / "__init__.py"), str(installed / "deephash" / "conf")]
    carried = {path.relative_to(installed / "deephash" / "conf") for path in installed.glob("deephash/conf/**/*.yaml")}
    assert carried >= {path.relative_to(ROOT / "conf") for path in ROOT.glob("conf/**/*.yaml")} - {Path("local")}

    for folder in ("web/demo", "web/study"):
        page = {path.name for path in (ROOT / "deephash" / folder / "page").iterdir()}
        assert {path.name for path in installed.glob(f"deephash/{folder}/page/*")} == page


@pytest.mark.ci
def test_train_and_evaluate_run_outside_a_clone(installed, tmp_path):
    program = str(installed / "bin" / "deephash")
    settings = ("bits=16", "logger=none", "figures=false", "hydra.run.dir=run")
    trained = run(installed, tmp_path, program, "train", "method=itq", *settings)
    assert trained.returncode == 0, trained.stderr
    assert "mAP" in trained.stdout
    assert (tmp_path / "run" / "metrics.json").exists()
    assert "deephash.projections.ITQ" in (tmp_path / "run" / "config.yaml").read_text()
    again = run(installed, tmp_path, program, "evaluate", "run=run")
    assert again.returncode == 0, again.stderr
    assert "The metrics equal those of the saved run exactly." in again.stdout
    assert "Traceback" not in trained.stderr + again.stderr
