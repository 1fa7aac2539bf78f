"""Installing the package into an environment with PyTorch adds packages and changes none: pip resolves it."""

import json
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What an environment may have: PyTorch 2.6 beside NumPy 1, and a later one.
ENVIRONMENTS = {
    "2.6": ["torch==2.6.0", "torchvision==0.21.0", "numpy==1.26.4", "pillow==10.4.0"],
    "2.11": ["torch==2.11.0", "torchvision==0.26.0", "numpy==2.3.5", "pillow==12.1.0"],
}


def resolve(folder: Path, *arguments: str) -> list[dict]:
    """What pip would install into an environment, as the packages' metadata."""
    report = folder / "report.json"
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "--retries", "0"]
    command = [*pip, "install", "--quiet", "--dry-run", "--report", str(report), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if "NewConnectionError" in done.stderr or "Could not find a version" in done.stderr:
        pytest.skip("pip reaches no index of packages")
    assert done.returncode == 0, done.stderr
    return [entry["metadata"] for entry in json.loads(report.read_text())["install"]]


@pytest.mark.ci
@pytest.mark.parametrize("version", ENVIRONMENTS)
def test_installing_changes_no_installed_package(version, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    installed = resolve(tmp_path, *ENVIRONMENTS[version])
    assert {"torch", "torchvision", "numpy", "sympy"} <= {package["name"].lower() for package in installed}
    # The metadata alone: the resolver reads nothing else of an installed package.
    for package in installed:
        lines = ["Metadata-Version: 2.1", f"Name: {package['name']}", f"Version: {package['version']}"]
        lines += [f"Requires-Dist: {line}" for line in package.get("requires_dist", [])]
        folder = site / f"{package['name'].replace('-', '_')}-{package['version']}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(lines) + "\n\n")
        (folder / "INSTALLER").write_text("pip\n")
        (folder / "RECORD").write_text("")
    assert resolve(tmp_path, *ENVIRONMENTS[version]) == []

    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    added = {package["name"].lower() for package in resolve(tmp_path, *dependencies)}
    assert {"lightning", "faiss-cpu"} <= added
    assert added & {package["name"].lower() for package in installed} == set()
    assert not {name for name in added if name.startswith("nvidia")}
