"""Soft histograms: against a loop over items and bins, exact for whole distances, and their gradients."""

import pytest
import torch

from deephash.functional.soft_histogram import soft_histogram


def looped(distances, weights, maximum, bins):
    counts = [[0.0] * bins for _ in distances]
    width = maximum / (bins - 1)
    for q, row in enumerate(distances.tolist()):
        for distance, weight in zip(row, weights[q].tolist(), strict=True):
            for i in range(bins):
                counts[q][i] += weight * max(0.0, 1 - abs(min(max(distance, 0), maximum) - i * width) / width)
    return torch.tensor(counts, dtype=distances.dtype)


def random_distances(maximum, q=3, n=11, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    return maximum * torch.rand(q, n, generator=generator, dtype=dtype), torch.rand(q, n, generator=generator) < 0.6


@pytest.mark.parametrize(("maximum", "bins"), [(8, 9), (8, 2), (5, 4), (3, 40)])
def test_it_is_the_loop_s(maximum, bins):
    distances, weights = random_distances(maximum)
    distances[0, 0], distances[0, 1] = 0, maximum  # Both ends have bins of their own.
    assert torch.allclose(soft_histogram(distances, weights, maximum, bins), looped(distances, weights, maximum, bins))


def test_whole_distances_are_counted_exactly():
    generator = torch.Generator().manual_seed(0)
    distances = torch.randint(0, 9, (4, 50), generator=generator)
    weights = torch.rand(4, 50, generator=generator) < 0.5
    counts = soft_histogram(distances.float(), weights, 8, 9)
    for q in range(4):
        assert counts[q].tolist() == [int(((distances[q] == i) & weights[q]).sum()) for i in range(9)]


def test_weights_that_are_not_whole_are_shared_too():
    distances, _ = random_distances(6)
    weights = distances.flip(1) / 6
    assert torch.allclose(soft_histogram(distances, weights, 6, 5), looped(distances, weights, 6, 5))


def test_gradient_between_bin_centres():
    distances, weights = random_distances(8)
    assert torch.autograd.gradcheck(lambda d: soft_histogram(d, weights, 8, 9), distances.requires_grad_())
    assert torch.autograd.gradcheck(lambda d: soft_histogram(d, weights, 8, 4), distances)


def test_gradient_on_a_bin_centre_is_the_slope_to_the_right():
    distances = torch.tensor([[0.0, 2.0, 4.0]], requires_grad=True)
    weight_of_bin = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])
    (soft_histogram(distances, torch.ones(1, 3), 4, 5) @ weight_of_bin).sum().backward()
    # The largest distance has no bin to its right: its slope is to the left.
    assert distances.grad.tolist() == [[9.0, 900.0, 9000.0]]


def test_what_rounding_puts_beyond_the_ends_is_counted_there_and_has_no_slope():
    distances = torch.tensor([[-1e-3, 4.001]], requires_grad=True)
    counts = soft_histogram(distances, torch.ones(1, 2), 4, 5)
    assert counts.tolist() == [[1.0, 0.0, 0.0, 0.0, 1.0]]
    (counts * torch.arange(5.0).square()).sum().backward()
    assert distances.grad.tolist() == [[0.0, 0.0]]


def test_type_is_kept_and_nothing_may_be_counted():
    for dtype in (torch.float32, torch.float64):
        distances, _ = random_distances(8, dtype=dtype)
        counts = soft_histogram(distances, torch.zeros(3, 11, dtype=torch.bool), 8, 9)
        assert counts.dtype == dtype
        assert not counts.any()
    assert soft_histogram(torch.empty(0, 0), torch.empty(0, 0), 8, 9).shape == (0, 9)
