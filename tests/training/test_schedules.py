"""Learning rates over a training."""

import math

import pytest

from deephash.training.schedules import constant, cosine, triangular
from deephash.validation import InvalidInputError


@pytest.mark.parametrize("schedule", [cosine, triangular])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_rises_then_falls_to_nothing(schedule, warmup):
    factors = [schedule(step / 200, warmup) for step in range(201)]
    peak = factors.index(max(factors))
    assert peak == round(200 * warmup) or (warmup == 1 and peak == 199)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    assert min(factors) >= 0
    assert max(factors) == pytest.approx(1, abs=0.01)


def test_falls_as_named():
    # Half-way through the fall, and a quarter: (1 + cos(π t)) / 2 and 1 - t.
    assert cosine(0.6, 0.2) == pytest.approx(0.5)
    assert cosine(0.4, 0.2) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert triangular(0.4, 0.2) == pytest.approx(0.75)
    assert cosine(0.1, 0.2) == triangular(0.1, 0.2) == 0.5
    assert {constant(step / 10) for step in range(11)} == {1.0}


def test_a_warmup_that_is_no_share_is_refused():
    for schedule in (cosine, triangular):
        with pytest.raises(InvalidInputError, match=r"warmup=1.5; expected a number from 0 to 1"):
            schedule(0.5, 1.5)
