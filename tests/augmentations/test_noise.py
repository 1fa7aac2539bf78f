"""Gaussian noise."""

import pytest
import torch

from deephash.augmentations.noise import Noise
from deephash.validation import InvalidInputError


def test_noise_is_in_proportion_to_each_feature_s_deviation():
    torch.manual_seed(0)
    features = 5 + torch.tensor([1.0, 100.0, 0.0]) * torch.randn(20_000, 3)
    noise = Noise(3, scale=0.2)(features) - features
    expected = 0.2 * features.std(0, correction=0)
    assert torch.allclose(noise.std(0), expected, rtol=0.03)
    assert float(noise[:, 2].abs().max()) == 0
    assert abs(float(torch.corrcoef(noise[:, :2].T)[0, 1])) < 0.03, "features are drawn apart"


def test_one_item_stays():
    assert torch.equal(Noise(3)(torch.ones(1, 3)), torch.ones(1, 3))


def test_bad_scales_are_refused():
    for bad in (0, -1, float("inf"), "much"):
        with pytest.raises(InvalidInputError, match=f"scale={bad!r}; expected a finite number above 0"):
            Noise(3, bad)
