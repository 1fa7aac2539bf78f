"""Double-bit quantisation: the paper's algorithm, step by step, and what its thresholds promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.quantizers.dbq import DBQ, adaptive_thresholds
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError


def slow_regions(values):
    """Algorithm 1 of the paper: sets S1, S2, S3 and the state of largest F; their sizes at it."""
    first, middle, last = sorted(v for v in values if v <= 0), [], sorted(v for v in values if v > 0)
    best, sizes = 0.0, None
    while first and last:
        if sum(middle) <= 0:
            middle.append(last.pop(0))
        else:
            middle.append(first.pop())
        if first and last:
            gain = sum(first) ** 2 / len(first) + sum(last) ** 2 / len(last)
            if gain > best:
                best, sizes = gain, (len(first), len(middle), len(last))
    return sizes


def sizes_of(values, thresholds):
    low, high = thresholds.tolist()
    return int((values < low).sum()), int(((values >= low) & (values < high)).sum()), int((values >= high).sum())


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_paper_s_algorithm(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(rng.integers(4, 120)) ** (1 + 2 * (seed % 2))
    values -= values.mean() * (seed % 3 > 0)  # Centred, and not.
    values = torch.from_numpy(values)
    assert sizes_of(values, adaptive_thresholds(values)) == slow_regions(values.tolist())


def test_thresholds_are_those_of_least_error_with_a_middle_of_mean_zero():
    """Against all pairs of cuts: among those whose middle region has a mean near 0, none has a lower error."""
    values = torch.randn(300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    values = (values - values.mean()).sort().values
    low, high = adaptive_thresholds(values).tolist()

    def error(a, b):
        middle = values[a:b]
        return sum(float(((part - part.mean()) ** 2).sum()) for part in (values[:a], values[b:])) + float(
            (middle**2).sum()
        )

    a, b = int((values < low).sum()), int((values < high).sum())
    assert abs(float(values[a:b].mean())) < 0.01
    allowed = [
        error(i, j)
        for i in range(1, 299)
        for j in range(i + 1, 300)
        if abs(float(values[i:j].sum())) <= abs(float(values[a:b].sum()))
    ]
    assert error(a, b) <= min(allowed) + 1e-9


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=30))
def test_equal_values_are_never_parted(values):
    thresholds = adaptive_thresholds(torch.tensor(values, dtype=torch.float32))
    low, high = thresholds.tolist()
    assert low <= high
    if min(values) <= 0 < max(values):
        assert min(values) < low
        assert high <= max(values)


def test_a_normal_distribution_has_its_thresholds_at_sixty_one_hundredths():
    """F of symmetric thresholds ±t is proportional to φ(t)² / (1 - Φ(t)), whose maximum is at t = 0.612."""
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    low, high = adaptive_thresholds(values - values.mean()).tolist()
    assert low == pytest.approx(-0.612, abs=0.03)
    assert high == pytest.approx(0.612, abs=0.03)


def test_bits_and_distances_of_the_three_regions():
    quantizer = DBQ(4)
    with torch.no_grad():
        quantizer.thresholds.copy_(torch.tensor([[-1.0, 1.0], [0.0, 2.0]]))
    bits = quantizer.quantize(torch.tensor([[-2.0, -1.0], [-1.0, 1.0], [1.0, 2.0]]))
    assert bits.int().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]]
    assert (bits[0] ^ bits[1]).sum() == 2
    assert (bits[0] ^ bits[2]).sum() == 4
    assert quantizer.distance == Hamming(4)
    assert quantizer.projection_dim == 2


def test_training_loss_can_move_both_thresholds():
    quantizer = DBQ(2).fit(torch.linspace(-1, 1, 50)[:, None])
    quantizer(torch.linspace(-1, 1, 50)[:, None]).sum().backward()
    # More ones: the upper bit is one above its threshold, so it falls; the lower one is one below, so it rises.
    low, high = quantizer.thresholds.grad[0].tolist()
    assert low > 0
    assert high < 0


@pytest.mark.parametrize(("bits", "message"), [(13, "give 12 or 14"), (1, "give 2")])
def test_refuses_odd_lengths(bits, message):
    with pytest.raises(
        InvalidInputError, match=f"bits={bits} is not a multiple of the 2 bits per projection; {message}"
    ):
        DBQ(bits)
