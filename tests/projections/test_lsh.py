"""Random hyperplanes."""

import math

import pytest
import torch

from deephash.projections.lsh import LSH


def test_chance_that_bits_differ_is_the_angle_over_pi():
    centre = torch.tensor([3.0, -1.0, 2.0, 0.0])
    hyperplanes = 40_000
    for angle in (0.1, 0.7, math.pi / 2, 2.5):
        one = torch.tensor([1.0, 0.0, 0.0, 0.0])
        other = torch.tensor([math.cos(angle), math.sin(angle), 0.0, 0.0])
        # The training rows have their mean at the centre, around which angles are taken.
        training = torch.stack([centre + one, centre - one])
        lsh = LSH(4, hyperplanes).fit(training, generator=torch.Generator().manual_seed(0))
        bits = lsh(torch.stack([centre + one, centre + other])) >= 0
        share = float((bits[0] != bits[1]).float().mean())
        standard_error = math.sqrt(angle / math.pi * (1 - angle / math.pi) / hyperplanes)
        assert share == pytest.approx(angle / math.pi, abs=4 * standard_error)


def test_directions_are_gaussian():
    directions = LSH(200, 300).fit(torch.zeros(1, 200)).directions.detach()
    assert float(directions.mean().abs()) < 0.02
    assert float(directions.std()) == pytest.approx(1, abs=0.01)
    assert float((directions.abs() < 0.6745).float().mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("bits", [1, 7, 1024])
def test_any_length_from_any_dimension(bits):
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    projections = LSH(3, bits).fit(features)(features)
    assert projections.shape == (20, bits)
    assert bool((projections.std(0) > 0).all())


def test_single_and_double_precision_draw_the_same_directions():
    features = torch.randn(20, 5)
    single, double = LSH(5, 9).fit(features), LSH(5, 9).double().fit(features)
    assert torch.equal(single.directions, double.directions.float())
