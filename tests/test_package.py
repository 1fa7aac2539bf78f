"""The package itself: light to import, nothing unsafe, and one FAISS wheel."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_importing_loads_nothing_heavy():
    heavy = ["torch", "numpy", "lightning", "faiss", "numba", "wandb"]
    code = f"import sys, deephash; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_unpickled():
    unsafe = re.compile(r"\bimport pickle\b|allow_pickle=True|torch\.load\((?!.*weights_only=True)|\bjoblib\.load\(")
    sources = [*ROOT.glob("deephash/**/*.py"), ROOT / "train.py", ROOT / "evaluate.py"]
    assert [path.name for path in sources if unsafe.search(path.read_text())] == []


def test_lightning_is_imported_under_one_name():
    sources = [*ROOT.glob("deephash/**/*.py"), *ROOT.glob("tests/**/*.py")]
    assert [p.name for p in sources if re.search(r"^\s*(import|from) pytorch_lightning", p.read_text(), re.M)] == []


def test_one_faiss_wheel_on_every_platform():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    gpu, cpu = sorted((line for line in dependencies if line.startswith("faiss-")), reverse=True)
    assert "sys_platform == 'linux' and platform_machine == 'x86_64'" in gpu
    assert "sys_platform != 'linux' or platform_machine != 'x86_64'" in cpu
