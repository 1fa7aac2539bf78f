"""Kernels of multi-index hashing are found again on disk by the next process."""

import pytest

from deephash.indexes import multi_index_kernels as kernels


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.substring_kernel(),
        kernels.sort_kernel(),
        kernels.nearest_kernel(1),
        kernels.nearest_kernel(2),
        kernels.radius_kernel(2),
    ],
    ids=lambda kernel: kernel.py_func.__qualname__,
)
def test_a_kernel_encloses_numbers_alone(kernel):
    """Their values are part of its key in numba's cache; those of a compiled function differ between processes."""
    assert all(isinstance(cell.cell_contents, int) for cell in kernel.py_func.__closure__ or ())
