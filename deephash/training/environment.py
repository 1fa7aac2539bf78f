"""Description of the environment of a run: versions, machine, and the git state of the source."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import deephash

RECORDED_PACKAGES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "safetensors", "wandb"),
    *("numpy", "scipy", "scikit-learn", "numba", "triton", "faiss-gpu", "faiss-cpu"),
)


def describe_environment() -> dict[str, Any]:
    """Return versions, machine, threads, GPUs and the git state of the source, as JSON values."""
    packages = {name: _find_version(name) for name in RECORDED_PACKAGES}
    return {
        "deephash": deephash.__version__,
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {name: version for name, version in packages.items() if version is not None},
        "git": read_git_state(Path(deephash.__file__).parent),
    }


def read_git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit and the changed tracked files; None if the source is not a git checkout or git is missing."""
    try:
        commit = _run_git(folder, "rev-parse", "HEAD")
        changed = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed_files": [line[3:] for line in changed.splitlines()]}


def _run_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip("\n")


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
