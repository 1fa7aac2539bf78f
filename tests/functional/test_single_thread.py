"""One thread within the block; the earlier number of threads is restored, even after an error."""

import pytest
import torch
from threadpoolctl import threadpool_info

from deephash.functional.single_thread import single_thread


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_threads_are_one_within_and_as_before_after():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        blas = blas_threads()
        with single_thread():
            assert torch.get_num_threads() == 1
            assert set(blas_threads()) <= {1}
        assert torch.get_num_threads() == 2
        assert blas_threads() == blas
        with pytest.raises(RuntimeError, match="fails"), single_thread():
            raise RuntimeError("fails")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
