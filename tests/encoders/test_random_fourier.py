"""Random Fourier features."""

import pytest
import torch

from deephash.encoders.random_fourier import RandomFourier, mean_squared_pair_distance
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 5 + 2 * torch.randn(60, 6, generator=generator(1), dtype=torch.float64)


def pair_distances(features):
    return (features[:, None] - features[None]).square().sum(2)


def test_mean_distance_is_that_of_all_pairs():
    assert mean_squared_pair_distance(FEATURES) == pytest.approx(float(pair_distances(FEATURES).mean()))
    assert mean_squared_pair_distance(FEATURES + 1e6) == pytest.approx(float(pair_distances(FEATURES).mean()))


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_inner_products_approximate_the_gaussian_kernel(width):
    squared = pair_distances(FEATURES)
    kernel = torch.exp(-squared / (2 * width**2 * squared.mean()))
    errors = []
    for frequencies in (2000, 32_000):
        encoded = RandomFourier(6, frequencies, width).double().fit(FEATURES, generator())(FEATURES)
        assert torch.allclose(encoded.square().sum(1), torch.ones(60, dtype=torch.float64))
        errors.append(float((encoded @ encoded.T - kernel).square().mean().detach().sqrt()))
    assert errors[0] < 1 / 2000**0.5
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.4), "the error falls as 1 / √m"


def test_scale_and_place_of_the_features_do_not_matter():
    one = RandomFourier(6, 30).double().fit(FEATURES, generator())(FEATURES)
    other = RandomFourier(6, 30).double().fit(1000 * FEATURES - 7, generator())(1000 * FEATURES - 7)
    assert torch.allclose(one, other)


def test_gradients():
    encoder = RandomFourier(6, 4).double().fit(FEATURES, generator())

    def encode(features, directions):
        return torch.func.functional_call(encoder, {"directions": directions}, features)

    inputs = [tensor.detach().clone().requires_grad_() for tensor in (FEATURES[:3], encoder.directions)]
    assert torch.autograd.gradcheck(encode, inputs)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="frequencies=0; expected a whole number of at least 1"):
        RandomFourier(6, 0)
    with pytest.raises(InvalidInputError, match="width=0; expected a finite number above 0"):
        RandomFourier(6, 3, width=0)
    with pytest.raises(InvalidInputError, match="all 9 training items are the same"):
        RandomFourier(6, 3).fit(torch.full((9, 6), 0.1), generator())
