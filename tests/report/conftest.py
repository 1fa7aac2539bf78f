"""Real digits, read once for all tests of the report."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def mnist_pixels() -> np.ndarray:
    """The 5,000 MNIST images as float64 (5000, 784) from 0 to 255."""
    from deephash.data.mnist5k import read_mnist_digits

    return read_mnist_digits()[0].astype(np.float64)
