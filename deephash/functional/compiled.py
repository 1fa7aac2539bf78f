"""Compilation of loops that no library provides: by numba, without the GIL, cached on disk."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numba
from numba import njit

Kernel = Callable[..., Any]


def compiled(function: Kernel, **options: Any) -> Kernel:
    """Compile a function, cached on disk if a folder is writable, otherwise in memory.

    The cache watches only the file of the function: functions that it calls must be in the same file. Kernels that
    `deephash warm` has compiled beside an installed package are used even where that folder is not writable.

    Args:
        function: a function in the subset of Python that numba compiles.
        options: further options of `numba.njit`, such as `fastmath`.
    """
    options = {"nogil": True, "error_model": "numpy", **options}
    stored = find_installed_kernels(function)
    try:
        kernel = njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": no folder of numba's is writable
        if not stored:
            return njit(**options)(function)  # type: ignore[no-any-return]
        kernel = _cache_for_process(function, options)
    copy_kernels(stored, Path(kernel.stats.cache_path))
    found: Kernel = kernel
    return found


def find_installed_kernels(function: Kernel) -> list[Path]:
    """Return the cache files of a function in the package's own folder, if numba does not use it.

    numba reads only from a folder that it can write to, so it ignores the kernels of a read-only installation.
    """
    source = Path(function.__code__.co_filename)
    folder = source.parent / "__pycache__"
    if not folder.is_dir() or os.access(folder, os.W_OK):
        return []
    return sorted(folder.glob(f"{source.stem}.*{function.__name__}-{function.__code__.co_firstlineno}.py*.nb[ic]"))


def copy_kernels(stored: list[Path], folder: Path) -> None:
    """Copy cache files into numba's folder, unless it holds the function already."""
    if any((folder / path.name).exists() for path in stored):
        return
    # An index names its data, so it is copied last. numba rejects an index of another version of the source.
    for path in sorted(stored, key=lambda path: path.suffix == ".nbi"):
        shutil.copyfile(path, folder / path.name)


def _cache_for_process(function: Kernel, options: dict[str, Any]) -> Any:
    """Compile with a cache that ends with the process."""
    config: Any = numba.config
    given, config.CACHE_DIR = config.CACHE_DIR, _create_process_folder().name
    try:
        return njit(cache=True, **options)(function)
    finally:
        config.CACHE_DIR = given


@cache
def _create_process_folder() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="deephash_kernels_")
