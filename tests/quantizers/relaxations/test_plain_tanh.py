"""tanh without continuation."""

import math

import torch

from deephash.quantizers.relaxations.plain_tanh import PlainTanh
from deephash.quantizers.relaxations.tanh import Tanh


def test_it_is_tanh_with_its_slope_whatever_the_progress():
    values = [-2.0, -0.5, 0.0, 1.5]
    margins = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    relaxation = PlainTanh()
    for progress in (0.0, 0.5, 1.0):
        relaxation.set_progress(progress)
        relaxed = relaxation(margins)
        assert torch.allclose(relaxed, torch.tensor([math.tanh(m) for m in values], dtype=torch.float64))
        (slopes,) = torch.autograd.grad(relaxed.sum(), margins)
        assert torch.allclose(slopes, torch.tensor([1 - math.tanh(m) ** 2 for m in values], dtype=torch.float64))


def test_continuation_starts_from_it():
    margins = torch.linspace(-3, 3, 13)
    start, end = Tanh(), Tanh()
    end.set_progress(1.0)
    assert torch.equal(start(margins), PlainTanh()(margins))
    assert not torch.allclose(end(margins), PlainTanh()(margins), atol=0.1)
