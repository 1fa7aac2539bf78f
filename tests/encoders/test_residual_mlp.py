"""The multilayer perceptron that corrects features."""

import pytest
import torch

from deephash.encoders.residual_mlp import ResidualMLP
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.projections.pcah import PCAH
from deephash.quantizers.sbq import SBQ


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 5 + 3 * torch.randn(300, 6, generator=generator(1))


@pytest.mark.parametrize("projection_class", [ITQ, PCAH, LSH])
def test_a_fitted_hasher_encodes_exactly_as_without_it(projection_class):
    encoded = Hasher(projection_class(6, 4), SBQ(4), ResidualMLP(6, [20])).fit(FEATURES)
    plain = Hasher(projection_class(6, 4), SBQ(4)).fit(FEATURES)
    assert torch.equal(encoded.project(FEATURES), plain.project(FEATURES))
    assert torch.equal(encoded.encode(FEATURES), plain.encode(FEATURES))


def test_each_seed_draws_other_weights():
    one, same, other = (ResidualMLP(6, [20]).fit(FEATURES, generator(seed)).layers[0].weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_start_is_the_identity_bit_for_bit_in_training_too():
    encoder = ResidualMLP(6, [20], dropout=0.5).fit(FEATURES, generator())
    assert torch.equal(encoder.train()(FEATURES), FEATURES)
    assert torch.equal(encoder.eval()(FEATURES), FEATURES)


def test_the_correction_is_of_standardised_features():
    encoder = ResidualMLP(6, [20]).double().fit(FEATURES.double(), generator()).eval()
    torch.nn.init.normal_(encoder.last.weight, generator=generator())
    standard = (FEATURES.double() - FEATURES.double().mean(0)) / FEATURES.double().std(0, correction=0)
    hidden = (standard @ encoder.layers[0].weight.T + encoder.layers[0].bias).clamp_min(0)
    scale = FEATURES.double().var(0, correction=0).mean().sqrt()
    assert torch.allclose(encoder(FEATURES.double()), FEATURES.double() + scale * (hidden @ encoder.last.weight.T))


def test_constant_features_have_no_say_in_the_scale():
    constant = torch.full((300, 6), 0.1)
    assert float(ResidualMLP(6, [4]).fit(constant, generator()).scale) == 1
    both = ResidualMLP(12, [4]).fit(torch.cat([FEATURES, constant], 1), generator())
    assert float(both.scale) == pytest.approx(float(FEATURES.var(0, correction=0).mean().div(2).sqrt()))


def test_it_learns():
    """A target that no linear map of the features gives."""
    target = FEATURES.roll(1, 1).sub(5).abs()
    encoder = ResidualMLP(6, [64], dropout=0.0).fit(FEATURES, generator())
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    first = float((encoder(FEATURES) - target).square().mean().detach())
    for _ in range(200):
        optimizer.zero_grad()
        loss = (encoder(FEATURES) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05 * first
