"""Whitening against NumPy's eigenvectors."""

import numpy as np
import pytest
import torch

from deephash.compression.whitening import Whitening
from deephash.validation import InvalidInputError


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2000, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 1


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_cosines_are_those_of_plain_whitening(vectors, power):
    values = vectors.double().numpy()
    centred = values - values.mean(0)
    variances, components = np.linalg.eigh(np.cov(centred.T, bias=True))
    expected = centred @ components / variances ** (power / 2)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    whitened = Whitening.fit(vectors, power)(vectors).double().numpy()
    # Components may differ in order and sign; cosines do not.
    np.testing.assert_allclose(whitened[:50] @ whitened[50:150].T, expected[:50] @ expected[50:150].T, atol=1e-4)


def test_directions_that_do_not_vary_are_left_out(vectors):
    flat = torch.cat([vectors, vectors[:, :3], torch.ones(len(vectors), 1)], 1)
    whitening = Whitening.fit(flat, 1)
    assert whitening.directions.shape == (16, 12)
    assert torch.isfinite(whitening(flat)).all()
    assert Whitening.fit(vectors[:5], 1)(vectors).shape == (2000, 4)


def test_what_cannot_be_whitened_is_refused(vectors):
    with pytest.raises(InvalidInputError, match="power=2; expected a number from 0"):
        Whitening.fit(vectors, 2)
    with pytest.raises(InvalidInputError, match="all 9 vectors are equal"):
        Whitening.fit(torch.ones(9, 4))
    with pytest.raises(InvalidInputError, match="vectors have 11 dimensions; expected 12"):
        Whitening.fit(vectors)(vectors[:, 1:])
