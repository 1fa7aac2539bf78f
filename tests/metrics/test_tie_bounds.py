"""The best and worst tie orders against all orders."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.metrics import average_precision, tie_bounds
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError

FORMS = {
    "": lambda k, relevant, hits: min(k, relevant),
    "_over_hits": lambda k, relevant, hits: max(hits, 1),
}


def list_ap(order, k, divisor):
    ranks = np.flatnonzero(order[:k]) + 1
    return float(np.sum(np.arange(1, len(ranks) + 1) / ranks)) / divisor(k, sum(order), len(ranks))


@st.composite
def short_rankings(draw):
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(lambda sizes: 1 <= sum(sizes) <= 8))
    return sizes, [draw(st.integers(0, n)) for n in sizes]


@given(short_rankings())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_equal_the_extremes_over_all_orders(ranking):
    total, relevant = ranking
    counts, items = DistanceCounts(torch.tensor([total]), torch.tensor([relevant])), sum(total)
    if sum(relevant) == 0:
        assert tie_bounds.best_average_precision(counts).isnan().all()
        assert tie_bounds.worst_average_precision_at_over_hits(counts, items).isnan().all()
        return
    groups = ([1] * r + [0] * (n - r) for n, r in zip(total, relevant, strict=True))
    choices = [sorted(set(itertools.permutations(group))) for group in groups]
    orders = [list(itertools.chain(*parts)) for parts in itertools.product(*choices)]
    for form, divisor in FORMS.items():
        for k in range(1, items + 1):
            values = [list_ap(order, k, divisor) for order in orders]
            best = getattr(tie_bounds, f"best_average_precision_at{form}")(counts, k)
            worst = getattr(tie_bounds, f"worst_average_precision_at{form}")(counts, k)
            assert float(best) == pytest.approx(max(values), abs=1e-14)
            assert float(worst) == pytest.approx(min(values), abs=1e-14)
    values = [list_ap(order, items, FORMS[""]) for order in orders]
    assert float(tie_bounds.best_average_precision(counts)) == pytest.approx(max(values), abs=1e-14)
    assert float(tie_bounds.worst_average_precision(counts)) == pytest.approx(min(values), abs=1e-14)


def test_expectation_lies_between_and_bounds_meet_without_ties():
    generator = torch.Generator().manual_seed(1)
    total = torch.randint(0, 400, (200, 17), generator=generator)
    relevant = (total * torch.rand(total.shape, generator=generator) ** 2).long()
    counts = DistanceCounts(total, relevant)
    k = int(total.sum(1).min())
    for form in FORMS:
        expected = getattr(average_precision, f"average_precision_at{form}")(counts, k)
        assert (getattr(tie_bounds, f"worst_average_precision_at{form}")(counts, k) < expected).all()
        assert (getattr(tie_bounds, f"best_average_precision_at{form}")(counts, k) > expected).all()
    singles = DistanceCounts(torch.ones(5, 30, dtype=torch.int64), torch.randint(0, 2, (5, 30), generator=generator))
    best, worst = tie_bounds.best_average_precision(singles), tie_bounds.worst_average_precision(singles)
    assert torch.allclose(best, worst, rtol=1e-14, atol=0)


def test_a_late_hit_can_lower_the_form_over_hits():
    # Rank 1 is relevant; of the nine tied items after it, one is: left out of the first 10 - 1, it does no harm.
    counts = DistanceCounts(torch.tensor([[1, 9]]), torch.tensor([[1, 1]]))
    assert float(tie_bounds.best_average_precision_at_over_hits(counts, 9)) == 1.0
    assert float(tie_bounds.worst_average_precision_at_over_hits(counts, 9)) == pytest.approx((1 + 2 / 9) / 2)


def test_all_tied_reaches_from_one_to_the_tail():
    counts = DistanceCounts(torch.tensor([[100]]), torch.tensor([[10]]))
    assert float(tie_bounds.best_average_precision(counts)) == pytest.approx(1.0)
    assert float(tie_bounds.worst_average_precision(counts)) == pytest.approx(
        np.mean(np.arange(1, 11) / np.arange(91, 101))
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", ["best", "worst"])
def test_cutoffs_beyond_the_ranking_are_refused(side, form):
    counts = DistanceCounts(torch.tensor([[1, 3]]), torch.tensor([[1, 0]]))
    with pytest.raises(InvalidInputError, match=r"^k=5 exceeds the 4 items that are ranked; lower k\.$"):
        getattr(tie_bounds, f"{side}_average_precision_at{form}")(counts, 5)
