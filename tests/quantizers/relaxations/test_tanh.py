"""tanh with continuation."""

import math

import pytest
import torch

from deephash.quantizers.relaxations.tanh import Tanh
from deephash.validation import InvalidInputError


@pytest.mark.parametrize(("progress", "scale"), [(0, 0.5), (0.5, 2.0), (1, 8.0)])
def test_scale_grows_geometrically(progress, scale):
    relaxation = Tanh(initial_scale=0.5, final_scale=8)
    relaxation.set_progress(progress)
    for margin in (-0.4, 0.1, 1.0):
        assert float(relaxation(torch.tensor(margin, dtype=torch.float64))) == pytest.approx(math.tanh(scale * margin))


def test_it_nears_the_step():
    relaxation = Tanh()
    margins = torch.tensor([-0.3, 0.3])
    gaps = []
    for progress in (0, 0.5, 1):
        relaxation.set_progress(progress)
        gaps.append(float((relaxation(margins) - torch.tensor([-1.0, 1.0])).abs().max()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.005


def test_bad_scales_are_refused():
    with pytest.raises(InvalidInputError, match="initial_scale=0; expected a finite number above 0"):
        Tanh(initial_scale=0)
    with pytest.raises(InvalidInputError, match="final_scale=inf; expected a finite number above 0"):
        Tanh(final_scale=float("inf"))
    with pytest.raises(InvalidInputError, match=r"final_scale=1.0 is below initial_scale=2.0; a continuation only"):
        Tanh(2.0, 1.0)
