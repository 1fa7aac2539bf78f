"""The multilayer perceptron."""

import numpy as np
import pytest
import torch

from deephash.encoders.mlp import MLP
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 5 + 3 * torch.randn(300, 6, generator=generator(1), dtype=torch.float64)


def test_it_is_standardised_features_through_layers():
    encoder = MLP(6, [7, 4]).double().fit(FEATURES, generator()).eval()
    expected = FEATURES.numpy()
    expected = (expected - expected.mean(0)) / expected.std(0)
    for layer in (encoder.layers[0], encoder.layers[3]):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        expected = np.maximum(expected @ weight.T + bias, 0)
    assert np.allclose(encoder(FEATURES).detach().numpy(), expected)
    assert encoder.output_dim == 4


def test_the_start_keeps_the_size_of_what_passes():
    encoder = MLP(6, [2000, 2000, 2000]).double().fit(FEATURES, generator()).eval()
    # Half of a ReLU's output is 0; the second moment is that of the input, 1, up to the draw.
    with torch.no_grad():
        assert float(encoder(FEATURES).square().mean()) == pytest.approx(1, rel=0.2)


def test_scale_of_the_features_does_not_matter():
    one, other = (MLP(6, [20]).double().fit(scale * FEATURES, generator()).eval() for scale in (1, 1000))
    assert torch.allclose(one(FEATURES), other(1000 * FEATURES))


def test_constant_features_are_no_trouble():
    features = FEATURES.float()
    features[:, 2] = 0.1
    encoder = MLP(6, [20]).fit(features, generator())
    assert float(encoder.standardised.deviation[2]) == 1
    assert bool(encoder(features[:1].expand(5, 6)).isfinite().all())
    assert bool(MLP(6, [20]).fit(features[:1], generator())(features).isfinite().all())


def test_dropout_acts_in_training_alone():
    encoder = MLP(6, [1000], dropout=0.25).double().fit(FEATURES, generator())
    kept = encoder.eval()(FEATURES) > 0
    assert float((encoder.train()(FEATURES)[kept] == 0).double().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("hidden", [[], 1024, "big", None])
def test_what_is_no_list_of_widths_is_refused(hidden):
    with pytest.raises(InvalidInputError, match="expected a list of at least one width"):
        MLP(6, hidden)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="hidden=0; expected a whole number of at least 1"):
        MLP(6, [8, 0])
    with pytest.raises(InvalidInputError, match=r"dropout=1.5; expected a number from 0 to 1"):
        MLP(6, [8], dropout=1.5)
    with pytest.raises(InvalidInputError, match="dropout=1 sets a whole layer to 0"):
        MLP(6, [8], dropout=1.0)
