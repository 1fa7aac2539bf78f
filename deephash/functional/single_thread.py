"""One thread, for loops of operations so short that several threads wait for each other longer than they work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Iterator[None]:
    """Torch and the BLAS of SciPy use one thread within the block, and as many as before after it.

    Where other work runs beside it, each hand-over between threads can cost a slice of the scheduler's time, and a
    loop of a thousand small eigenproblems a minute.
    """
    import scipy.linalg  # noqa: F401 - only libraries that are loaded by now are limited
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
