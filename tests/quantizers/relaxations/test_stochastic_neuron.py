"""Stochastic binary neurons: probabilities of bits, and the gradient of their mean."""

import math

import pytest
import torch

from deephash.quantizers.relaxations.stochastic_neuron import StochasticNeuron

DRAWS = 40_000
MARGINS = torch.tensor([-2.0, -0.5, 0.0, 0.3, 1.5])


def test_the_mean_of_draws_is_that_of_the_sigmoid():
    torch.manual_seed(0)
    bits = StochasticNeuron()(MARGINS.expand(DRAWS, 5))
    assert bool((bits.abs() == 1).all())
    for mean, margin in zip(bits.double().mean(0).tolist(), MARGINS.tolist(), strict=True):
        expected = 2 / (1 + math.exp(-margin)) - 1
        # Five standard errors.
        assert abs(mean - expected) < 5 * math.sqrt((1 - expected**2) / DRAWS)


def test_gradient_is_that_of_the_mean():
    for mode in (True, False):
        margins = MARGINS.double().requires_grad_()
        StochasticNeuron().train(mode)(margins).sum().backward()
        for gradient, margin in zip(margins.grad.tolist(), MARGINS.double().tolist(), strict=True):
            share = 1 / (1 + math.exp(-margin))
            assert gradient == pytest.approx(2 * share * (1 - share))


def test_the_likelier_bit_is_taken_in_evaluation_mode():
    assert StochasticNeuron().eval()(MARGINS).tolist() == [-1, -1, 1, 1, 1]
