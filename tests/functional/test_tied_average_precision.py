"""Average precision of counts: exact for whole ones, over all orders of ties, and smooth between them."""

import itertools

import pytest
import torch

from deephash.functional.soft_histogram import soft_histogram
from deephash.functional.tied_average_precision import tie_aware_average_precision
from deephash.metrics.average_precision import average_precision
from deephash.ranking.counts import DistanceCounts


def random_counts(q=40, bins=12, most=4):
    generator = torch.Generator().manual_seed(2)
    total = torch.randint(0, most + 1, (q, bins), generator=generator)
    relevant = (torch.rand(q, bins, generator=generator) * (total + 1)).floor().long()
    relevant[:, 0] += relevant.sum(1) == 0
    return torch.maximum(total, relevant), relevant


def over_all_orders(total, relevant):
    """The mean over all permutations within each group."""
    groups = [[1] * r + [0] * (n - r) for n, r in zip(total, relevant, strict=True)]
    values = []
    for orders in itertools.product(*(list(itertools.permutations(group)) for group in groups)):
        hits, value = 0, 0.0
        for rank, hit in enumerate(itertools.chain(*orders), 1):
            hits += hit
            value += hit * hits / rank
        values.append(value / hits)
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("total", "relevant"),
    [((3, 0, 2), (1, 0, 2)), ((1, 4), (0, 2)), ((1, 1, 1), (0, 1, 1)), ((4,), (4,)), ((5,), (1,))],
)
def test_whole_counts_give_the_mean_over_all_orders(total, relevant):
    value = tie_aware_average_precision(torch.tensor([total]).double(), torch.tensor([relevant]).double())
    assert float(value) == pytest.approx(over_all_orders(total, relevant), abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("most", [1, 4, 3000])
def test_whole_counts_give_the_metric(most, dtype, tolerance):
    total, relevant = random_counts(most=most)
    value = tie_aware_average_precision(total.to(dtype), relevant.to(dtype))
    assert value.dtype == dtype
    assert torch.allclose(value.double(), average_precision(DistanceCounts(total, relevant)), rtol=0, atol=tolerance)


def test_it_is_continuous_and_within_0_and_1():
    generator = torch.Generator().manual_seed(0)
    total = 3 * torch.rand(200, 10, generator=generator, dtype=torch.float64).square()
    relevant = total * torch.rand(200, 10, generator=generator, dtype=torch.float64)
    value = tie_aware_average_precision(total, relevant)
    assert bool(((value > 0) & (value <= 1)).all())
    # Just beside no item, one item, and the ends of what lies between.
    for start in (0.0, 1.0, 1 - 1e-3, 1 + 1e-3):
        near = []
        for step in (-1e-9, 0.0, 1e-9):
            total[:, 4] = max(0.0, start + step)
            near.append(tie_aware_average_precision(total, torch.minimum(relevant, total)))
        assert float((near[0] - near[1]).abs().max()) < 1e-8
        assert float((near[2] - near[1]).abs().max()) < 1e-8


def test_all_relevant_is_perfect_however_items_are_shared():
    total = torch.rand(5, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(tie_aware_average_precision(total, total), torch.ones(5, dtype=torch.float64), atol=1e-9)


def test_a_relevant_item_between_two_bins_adds_the_precision_at_its_rank():
    for share in (0.1, 0.5, 0.9, 1.0):
        total = torch.tensor([[2.0, share, 1 - share]]).double()
        relevant = torch.tensor([[0.0, share, 1 - share]]).double()
        assert float(tie_aware_average_precision(total, relevant)) == pytest.approx(1 / 3, abs=1e-6)


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    total = 2.5 * torch.rand(4, 7, generator=generator, dtype=torch.float64)
    relevant = total * torch.rand(4, 7, generator=generator, dtype=torch.float64)
    total[0, 0], total[1, 3], total[2, 2] = 1.0, 1.0004, 0.9997
    inputs = (total.requires_grad_(), torch.minimum(relevant, total).detach().requires_grad_())
    assert torch.autograd.gradcheck(tie_aware_average_precision, inputs)


def test_an_empty_bin_has_the_slope_of_its_first_item():
    total, relevant = torch.tensor([[3.0, 0.0, 2.0]]).double(), torch.tensor([[1.0, 0.0, 1.0]]).double()
    slopes = []
    for amount in (0.0, 1e-3):
        inputs = [(each + torch.tensor([[0.0, amount, 0.0]])).requires_grad_() for each in (total, relevant)]
        slopes.append(torch.autograd.grad(tie_aware_average_precision(*inputs).sum(), inputs[1])[0])
    assert torch.allclose(slopes[0], slopes[1], atol=1e-3)


def test_without_relevant_items_it_is_zero_with_a_gradient_of_zero():
    total = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    value = tie_aware_average_precision(total, torch.zeros(2, 2))
    assert value.tolist() == [0.0, 0.0]
    value.sum().backward()
    assert total.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_as_bins_narrow_it_becomes_the_average_precision_of_the_distances():
    generator = torch.Generator().manual_seed(6)
    distances = 8 * torch.rand(20, 30, generator=generator, dtype=torch.float64)
    relevant = torch.rand(20, 30, generator=generator) < 0.3
    relevant[:, 0] = True
    hits = relevant.gather(1, distances.argsort(1)).double()
    exact = (hits * hits.cumsum(1) / torch.arange(1, 31)).sum(1) / hits.sum(1)
    errors = []
    for bins in (9, 65, 513, 4097, 1 << 15):
        counts = [soft_histogram(distances, mask, 8, bins) for mask in (torch.ones_like(relevant), relevant)]
        errors.append(float((tie_aware_average_precision(*counts) - exact).abs().max()))
    assert all(after < before for before, after in itertools.pairwise(errors))
    assert errors[0] > 0.02
    assert errors[-1] < 1e-3
