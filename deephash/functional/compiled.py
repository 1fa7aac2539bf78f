"""Compilation of the loops that no library has: by numba, without Python's lock, cached on disk."""

from collections.abc import Callable
from typing import Any

from numba import njit

Kernel = Callable[..., Any]


def compiled(function: Kernel, **options: Any) -> Kernel:
    """Compile a function, cached on disk where a folder can be written, in memory elsewhere.

    The cache watches the file of the function alone: what it calls has to stand in the same file.

    Args:
        function: in the part of Python that numba takes.
        options: further ones of `numba.njit`, as `fastmath`.
    """
    options = {"nogil": True, "error_model": "numpy", **options}
    kernel: Kernel
    try:
        kernel = njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": a read-only installation without a user's cache folder
        kernel = njit(**options)(function)
    return kernel
