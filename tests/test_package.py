"""The package itself: fast to import, nothing unsafe, and its required packages are those that it imports."""

import ast
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


def test_dependencies_are_what_the_package_imports():
    """What the core requires, something imports; what something imports, the core or an extra requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [project["dependencies"], *project["optional-dependencies"].values()]
    core, *extras = ({re.match(r"[\w-]+", line)[0] for line in lines} for lines in requirements)
    names = {"PIL": "pillow", "faiss": "faiss-cpu", "hydra": "hydra-core", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    names |= {"haystack": "haystack-ai", "llama_index": "llama-index-core"}
    # What always comes with another: torch, requests, fastapi and numba.
    names |= {"triton": "torch", "urllib3": "requests", "pydantic": "fastapi", "llvmlite": "numba"}
    imported = set()
    for path in [*ROOT.glob("deephash/**/*.py"), ROOT / "train.py", ROOT / "evaluate.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"deephash"}
    required = {names.get(name, name.replace("_", "-")) for name in imported}
    assert core - required == set()
    assert required - core.union(*extras) == set()
