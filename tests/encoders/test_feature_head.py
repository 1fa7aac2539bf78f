"""The head for features of frozen networks."""

import numpy as np
import pytest
import torch

from deephash.encoders.feature_head import FeatureHead
from deephash.functional.feature_scale import take_signed_roots
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 3 * torch.randn(300, 6, generator=generator(1), dtype=torch.float64)


def test_it_is_standardised_roots_through_layers():
    encoder = FeatureHead(6, [7, 4]).double().fit(FEATURES, generator()).eval()
    expected = np.sign(FEATURES.numpy()) * np.sqrt(np.abs(FEATURES.numpy()))
    expected = (expected - expected.mean(0)) / expected.std(0)
    for layer in (encoder.layers[0], encoder.layers[3]):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        expected = np.maximum(expected @ weight.T + bias, 0)
    assert np.allclose(encoder(FEATURES).detach().numpy(), expected)
    assert encoder.output_dim == 4


def test_gradients_of_roots():
    away_from_zero = (FEATURES.sign() * (FEATURES.abs() + 0.1)).requires_grad_()
    assert torch.autograd.gradcheck(take_signed_roots, away_from_zero)
    values = torch.tensor([0.0, -0.0, 4.0], requires_grad=True)
    take_signed_roots(values).sum().backward()
    assert values.grad.tolist() == [0, 0, 0.25]


def test_inputs_are_dropped_in_training_only():
    encoder = FeatureHead(6, [1000], input_dropout=0.5, dropout=0.0).double().fit(FEATURES, generator())
    same = FEATURES[:1].expand(2000, 6)
    assert len(encoder.eval()(same).unique(dim=0)) == 1
    # The features that remain are one of 2^6 sets.
    assert 40 <= len(encoder.train()(same).detach().unique(dim=0)) <= 64


@pytest.mark.parametrize("settings", [{"hidden": []}, {"input_dropout": 1.0}, {"dropout": -0.1}, {"input_dropout": 2}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        FeatureHead(6, **settings)
