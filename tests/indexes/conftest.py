"""Codes for the indexes' tests: clustered, so that there are near ones and ties."""

import numpy as np
import pytest
import torch


def clustered(rows, bits, seed, centres=40, flipped=0.08, centre_seed=7):
    """Codes around a few random centres, uint8 (rows, ⌈bits/8⌉): what a hasher makes of items of some classes."""
    centre = np.random.default_rng(centre_seed).random((centres, bits)) < 0.5
    rng = np.random.default_rng(seed)
    found = centre[rng.integers(0, centres, rows)] ^ (rng.random((rows, bits)) < flipped)
    return torch.from_numpy(np.packbits(found, axis=1, bitorder="little"))


@pytest.fixture(scope="session")
def clustered_codes():
    return clustered
