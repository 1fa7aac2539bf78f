"""What the README tells users to type works: its Python runs, its commands compose."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands():
    lines = [
        line for page in PAGES for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()
    ]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    found = [part for part in parts if re.match(r"(\.venv/bin/)?python train\.py", part) and "..." not in part]
    return sorted({shlex.join(shlex.split(part, comments=True)[2:]) for part in found})


def test_python_runs(tmp_path):
    (code,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hasher" / "weights.safetensors").exists()


def test_commands_are_found():
    assert "method=itq bits=64" in commands()
    assert len(commands()) > 8


@pytest.mark.parametrize("command", commands())
def test_command_composes(command, compose_config):
    overrides = [word for word in shlex.split(command) if word != "-m"]
    # A sweep's lists are Hydra's to unroll; its first value stands for them.
    first = [re.sub(r"^([\w./]+=)([^\[,(]+),.*$", r"\1\2", override) for override in overrides]
    single = [override for override in first if not re.search(r"(range|choice|glob)\(", override)]
    assert compose_config(*single).bits >= 1


def test_test_command_makes_an_environment_and_runs_pytest():
    section = (ROOT / "README.md").read_text().split("## Test", 1)[1]
    command = re.search(r"```bash\n(.*?)\n```", section, flags=re.DOTALL).group(1)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -e ")
    assert command.endswith("/pytest")
