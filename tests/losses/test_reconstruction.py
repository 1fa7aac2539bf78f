"""Reconstruction of features from codes."""

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.reconstruction import Reconstruction
from deephash.validation import InvalidInputError


def batch_of(codes, features):
    return TrainingBatch(codes, codes, features, torch.arange(len(codes)))


def sample(n, k, seed=0):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_loss_is_its_definition():
    loss = Reconstruction(4, 3).double()
    codes, features = sample(20, 4).tanh(), 100 + 5 * sample(20, 3, 1) * torch.tensor([1.0, 2.0, 3.0])
    deviation = features.std(0, correction=0).square().mean().sqrt()
    error = 0.0
    for i in range(20):
        for j in range(3):
            decoded = (loss.decoder.weight[j] @ codes[i] + loss.decoder.bias[j]).item()
            error += (decoded - ((features[i, j] - features[:, j].mean()) / deviation).item()) ** 2
    assert loss(batch_of(codes, features)).item() == pytest.approx(error / 60)


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_a_trained_decoder_comes_to_the_variance_left_by_least_squares(scale):
    loss = Reconstruction(4, 6).double()
    codes, features = sample(50, 4).tanh(), scale * (30 + sample(50, 6, 1))
    optimizer = torch.optim.Adam(loss.parameters(), 0.05)
    for _ in range(500):
        optimizer.zero_grad()
        loss(batch_of(codes, features)).backward()
        optimizer.step()
    centred = features - features.mean(0)
    inputs = torch.cat([codes, torch.ones(50, 1, dtype=torch.float64)], 1)
    left = centred - inputs @ torch.linalg.lstsq(inputs, centred).solution
    expected = (left.square().sum() / centred.square().sum()).item()
    assert loss(batch_of(codes, features)).item() == pytest.approx(expected, rel=1e-3)


def test_items_that_are_all_the_same_say_nothing():
    loss = Reconstruction(4, 3)
    for n in (1, 7):
        codes = torch.rand(n, 4, requires_grad=True)
        value = loss(batch_of(codes, torch.full((n, 3), 0.1)))
        assert value.item() == 0
        value.backward()
        assert not codes.grad.any()


def test_bad_dimensions_are_refused():
    with pytest.raises(InvalidInputError, match="input_dim=0; expected a whole number of at least 1"):
        Reconstruction(4, 0)
