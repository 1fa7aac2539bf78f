"""One thread for loops of short operations, in which several threads would mostly wait for each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit torch and the BLAS of SciPy to one thread within the block, and restore their threads after it.

    If other work runs on the machine, each hand-over between threads can cost a slice of the scheduler's time. A loop
    of a thousand small eigenproblems can then take a minute longer.
    """
    import scipy.linalg  # noqa: F401 - the limit applies only to loaded libraries
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
