"""The staircase of sigmoids: from smooth to the regions' numbers."""

import math

import pytest
import torch

from deephash.affinity.label import Label
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.npq import NPQ
from deephash.quantizers.relaxations.sigmoid_staircase import SigmoidStaircase
from deephash.quantizers.threshold_encodings import region_numbers
from deephash.validation import InvalidInputError


@pytest.mark.parametrize(("progress", "scale"), [(0, 0.5), (0.5, 4.25), (1, 8.0)])
def test_scale_grows_linearly(progress, scale):
    relaxation = SigmoidStaircase(initial_scale=0.5, final_scale=8)
    relaxation.set_progress(progress)
    for margin in (-0.4, 0.1, 1.0):
        expected = 2 / (1 + math.exp(-scale * margin)) - 1
        assert float(relaxation(torch.tensor(margin, dtype=torch.float64))) == pytest.approx(expected)


def test_least_margins_keep_their_side():
    least = torch.tensor([-1e-12, 1e-12])
    assert (SigmoidStaircase()(least) >= 0).tolist() == [False, True]


@pytest.mark.parametrize(
    ("quantizer_class", "count"), [(MHQ, 2), (NPQ, 7), (NPQ, 15)], ids=["MHQ of 2 bits", "NPQ of 7", "NPQ of 15"]
)
def test_sum_of_steps_tends_to_the_region_s_number(quantizer_class, count):
    quantizer = quantizer_class(12, count, relaxation=SigmoidStaircase())
    k = quantizer.projection_dim
    projections = torch.randn(120, k, generator=torch.Generator().manual_seed(0))
    quantizer.fit(projections, affinity=Label().supervise(projections, torch.arange(120) % 5))
    regions = region_numbers(projections, quantizer.thresholds).float()
    gaps = []
    for unit in (1.0, 0.1, 0.01, 1e-4):
        quantizer.unit = torch.tensor(unit)
        steps = (quantizer.unary(projections) + 1) / 2
        numbers = steps.view(120, k, -1).sum(2)
        gaps.append(float((numbers - regions).detach().abs().mean()))
        # A staircase rises with its projection.
        assert bool((numbers.gather(0, projections.argsort(0)).diff(dim=0) >= -1e-5).all())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.01 < gaps[0]


def test_bad_scales_are_refused():
    with pytest.raises(InvalidInputError, match="initial_scale=0; expected a finite number above 0"):
        SigmoidStaircase(initial_scale=0)
    with pytest.raises(InvalidInputError, match="final_scale=inf; expected a finite number above 0"):
        SigmoidStaircase(final_scale=float("inf"))
    with pytest.raises(InvalidInputError, match=r"final_scale=1.0 is below initial_scale=2.0; a continuation only"):
        SigmoidStaircase(2.0, 1.0)
