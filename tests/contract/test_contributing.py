"""The template of CONTRIBUTING.md, word for word, fulfils the contract, by the command that the page names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.ci
def test_the_template_fulfils_the_contract(tmp_path):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in ("deephash", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "contract", tmp_path / "tests" / "contract")
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    files = re.findall(r"\d\. `([\w/.]+)`:\n\n   ```\w+\n(.*?)   ```\n", page, re.DOTALL)
    assert [name for name, _ in files] == ["deephash/projections/example.py", "conf/method/example.yaml"]
    for name, code in files:
        (tmp_path / name).write_text(dedent(code), encoding="utf-8")
    (command,) = re.findall(r"`pytest (tests/contract -k \w+)`", page)
    arguments = [*command.split(), "-n", "0", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) > 20
