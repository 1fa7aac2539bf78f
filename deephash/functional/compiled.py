"""Compilation of loops that no library provides: by numba, without the GIL, cached on disk."""

from collections.abc import Callable
from typing import Any

from numba import njit

Kernel = Callable[..., Any]


def compiled(function: Kernel, **options: Any) -> Kernel:
    """Compile a function, cached on disk if a folder is writable, otherwise in memory.

    The cache watches only the file of the function: functions that it calls must be in the same file.

    Args:
        function: a function in the subset of Python that numba compiles.
        options: further options of `numba.njit`, such as `fastmath`.
    """
    options = {"nogil": True, "error_model": "numpy", **options}
    kernel: Kernel
    try:
        kernel = njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": a read-only installation without a user's cache folder
        kernel = njit(**options)(function)
    return kernel
