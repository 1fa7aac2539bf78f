"""Powers of two, and scaling by them, for values whose squares overflow or vanish."""

import math

import pytest
import torch

from deephash.functional.safe_scale import power_of_two, safe_lengths
from deephash.functional.unit_features import unit_features


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_powers_are_exact(dtype):
    values = torch.tensor([[1.0, -3.0], [0.0, 0.0], [torch.inf, 1.0], [0.75, torch.nan]], dtype=dtype)
    assert power_of_two(values, 1)[:3, 0].tolist() == [2.0, 1.0, 1.0]
    limits = torch.finfo(dtype)
    for value in (limits.max, limits.tiny, limits.tiny / 8, 1.5):
        power = power_of_two(torch.tensor(value, dtype=dtype))
        assert power.dtype == dtype
        assert float(power) == math.ldexp(0.5, math.frexp(value)[1])
        assert 1 <= float(torch.tensor(value, dtype=dtype) / power) < 2
    assert power_of_two(values[:0]) == 1


def test_lengths_and_unit_vectors_at_any_scale():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    for power in (-50, 0, 120):
        assert safe_lengths(vectors * 2.0**power).tolist() == [5 * 2.0**power, 0.0]
        units = unit_features(vectors * 2.0**power, torch.zeros(2))
        torch.testing.assert_close(units, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
