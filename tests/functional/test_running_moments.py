"""Moments of a stream equal those of all its items at once."""

import numpy as np
import pytest
import torch

from deephash.functional.running_moments import check_half_life, decay_weights, update_moments
from deephash.validation import InvalidInputError

ROWS = torch.randn(90, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100


def moments(batches, half_life):
    weight, mean, scatter = torch.zeros((), dtype=torch.float64), torch.zeros(5).double(), torch.zeros(5, 5).double()
    for batch in batches:
        update_moments(weight, mean, scatter, batch, *decay_weights(len(batch), half_life))
    return weight, mean, scatter


@pytest.mark.parametrize("half_life", [None, 7.0])
@pytest.mark.parametrize("size", [1, 13, 90])
def test_they_are_the_weighted_moments_however_cut(size, half_life):
    weight, mean, scatter = moments(ROWS.split(size), half_life)
    x = ROWS.numpy()
    w = np.ones(90) if half_life is None else 0.5 ** (np.arange(89, -1, -1) / half_life)
    expected = np.average(x, axis=0, weights=w)
    np.testing.assert_allclose(float(weight), w.sum())
    np.testing.assert_allclose(mean, expected, rtol=1e-12)
    np.testing.assert_allclose(scatter, (x - expected).T @ np.diag(w) @ (x - expected), rtol=1e-9, atol=1e-9)


def test_a_far_mean_cancels_nothing():
    _, _, scatter = moments((ROWS.float() + 2000).split(13), None)
    centred = (ROWS - ROWS.mean(0)).numpy()
    np.testing.assert_allclose(scatter.diagonal(), (centred**2).sum(0), rtol=1e-3)


def test_half_life_is_refused_below_zero():
    with pytest.raises(InvalidInputError, match="half_life=-1; expected a finite number above 0"):
        check_half_life(-1)
