"""Metrics of user models: against all orders of short tied lists, and against ir-measures on lists without ties."""

import itertools
import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.codes import pack
from deephash.metrics.expected_reciprocal_rank import expected_reciprocal_rank
from deephash.metrics.expected_search_length import expected_search_length, scanning_seconds
from deephash.metrics.ndcg import ndcg_at
from deephash.metrics.rank_biased_precision import rank_biased_precision
from deephash.metrics.success import success_at
from deephash.ranking.distance import Hamming
from deephash.ranking.graded_counts import GradedCounts, graded_counts
from deephash.ranking.relevance import SharedLabels
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError


@st.composite
def rankings(draw, most=6, highest=2):
    """Grades of the items of each tie group."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(lambda sizes: 1 <= sum(sizes) <= most))
    return [[draw(st.integers(0, highest)) for _ in range(size)] for size in sizes]


def counts_of(groups, highest=2):
    return GradedCounts(torch.tensor([[[group.count(grade) for grade in range(highest + 1)] for group in groups]]))


def orders(groups):
    """All lists that sorting by distance can give, equally likely."""
    return [list(itertools.chain(*parts)) for parts in itertools.product(*map(itertools.permutations, groups))]


def naive_ndcg(grades, k):
    def gain(some):
        return sum((2**grade - 1) / math.log2(rank + 2) for rank, grade in enumerate(some[:k]))

    return gain(grades) / gain(sorted(grades, reverse=True))


def naive_rbp(grades, persistence, highest=2):
    gains = [(2**grade - 1) / (2**highest - 1) for grade in grades]
    return (1 - persistence) * sum(persistence**rank * gain for rank, gain in enumerate(gains))


def naive_err(grades, k, highest=2):
    passed, value = 1.0, 0.0
    for rank, grade in enumerate(grades[:k], start=1):
        stop = (2**grade - 1) / 2**highest
        value += passed * stop / rank
        passed *= 1 - stop
    return value


def naive_search_length(grades, wanted):
    seen = 0
    for rank, grade in enumerate(grades, start=1):
        seen += grade > 0
        if seen == wanted:
            return rank - wanted
    return math.nan


@given(rankings())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equal_the_mean_over_all_orders(groups):
    counts, lists = counts_of(groups), orders(groups)
    binary = counts.at_least(1)
    for k in range(1, len(lists[0]) + 1):
        values = ndcg_at(counts, k), expected_reciprocal_rank(counts, k), success_at(binary, k)
        if not any(lists[0]):
            assert all(value.isnan().all() for value in values)
            continue
        expected = [
            np.mean([naive_ndcg(grades, k) for grades in lists]),
            np.mean([naive_err(grades, k) for grades in lists]),
            np.mean([any(grades[:k]) for grades in lists]),
        ]
        assert [float(value) for value in values] == pytest.approx(expected, abs=1e-12)
    if any(lists[0]):
        expected = np.mean([naive_rbp(grades, 0.7) for grades in lists])
        assert float(rank_biased_precision(counts, 0.7)) == pytest.approx(expected, abs=1e-12)
    for wanted in (1, 2, 3):
        expected = np.mean([naive_search_length(grades, wanted) for grades in lists])
        assert float(expected_search_length(binary, wanted)) == pytest.approx(expected, abs=1e-12, nan_ok=True)
        seconds = 2 * (expected + wanted) + 3 * wanted
        assert float(scanning_seconds(binary, wanted, 2, 3)) == pytest.approx(seconds, abs=1e-12, nan_ok=True)


@pytest.mark.skipif(shutil.which("perl") is None, reason="ERR and exponential nDCG are TREC's own script, in Perl")
def test_equal_ir_measures_without_ties():
    """An independent implementation, on lists of 40 items, each at a distance of its own."""
    measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(0)
    grades = rng.choice(3, p=[0.7, 0.2, 0.1], size=(20, 40))
    counts = GradedCounts(torch.nn.functional.one_hot(torch.from_numpy(grades), 3))
    qrels = [measures.Qrel(str(q), str(i), int(g)) for q, row in enumerate(grades) for i, g in enumerate(row)]
    run = [measures.ScoredDoc(str(q), str(i), 40.0 - i) for q in range(20) for i in range(40)]
    ours = {
        measures.nDCG(dcg="exp-log2") @ 10: ndcg_at(counts, 10),
        measures.Success(rel=1) @ 3: success_at(counts.at_least(1), 3),
        # Its grades reach to 4.
        measures.ERR @ 20: expected_reciprocal_rank(GradedCounts(torch.nn.functional.pad(counts.by_grade, (0, 2))), 20),
    }
    for measure, values in ours.items():
        theirs = {row.query_id: row.value for row in measures.iter_calc([measure], qrels, run)}
        # Some of its providers print five digits.
        assert [theirs[str(q)] for q in range(20)] == pytest.approx(values.tolist(), abs=6e-6), str(measure)


def test_long_lists_of_ties_stay_exact():
    """ERR of one tie group of 50,000 items: ranks are as good as independent draws there."""
    counts = GradedCounts(torch.tensor([[[45_000, 5_000]]]))
    independent = sum(0.05 * 0.95 ** (rank - 1) / rank for rank in range(1, 101))
    assert float(expected_reciprocal_rank(counts, 100)) == pytest.approx(independent, rel=1e-3)
    assert float(success_at(counts.at_least(1), 10)) == pytest.approx(1 - 0.9**10, rel=1e-3)


@pytest.mark.parametrize("block_bytes", [2**16, 2**28])
def test_graded_counts_equal_counting(block_bytes):
    generator = torch.Generator().manual_seed(0)
    codes = [pack(torch.rand(n, 12, generator=generator) < 0.5) for n in (7, 500)]
    labels = [torch.rand(n, 4, generator=generator) < 0.4 for n in (7, 500)]
    labels[0][0] = False
    counts = graded_counts(*codes, Hamming(12), *labels, block_bytes)
    bits = [np.unpackbits(code.numpy(), axis=1, bitorder="little") for code in codes]
    distances = (bits[0][:, None] != bits[1][None]).sum(2)
    shared = (labels[0].numpy()[:, None] & labels[1].numpy()[None]).sum(2)
    expected = np.zeros((7, 13, counts.highest + 1), int)
    np.add.at(expected, (np.arange(7)[:, None], distances, shared), 1)
    np.testing.assert_array_equal(counts.by_grade.numpy(), expected)
    ranked = TorchEngine().rank(*codes, Hamming(12), SharedLabels(*labels))
    assert torch.equal(counts.at_least(1).relevant, ranked.relevant)


def test_refusals():
    counts = counts_of([[0, 1], [2]])
    with pytest.raises(InvalidInputError, match="k=4 exceeds the 3 items"):
        ndcg_at(counts, 4)
    with pytest.raises(InvalidInputError, match=r"persistence=1\.0; expected a number between 0 and 1"):
        rank_biased_precision(counts, 1.0)
    with pytest.raises(InvalidInputError, match="wanted=0"):
        expected_search_length(counts.at_least(1), 0)
    with pytest.raises(InvalidInputError, match="glance=-1 and reading=5"):
        scanning_seconds(counts.at_least(1), 1, -1, 5)
    with pytest.raises(InvalidInputError, match="grade=3 exceeds 2"):
        counts.at_least(3)
    with pytest.raises(InvalidInputError, match="expected int64"):
        GradedCounts(torch.zeros(2, 3, 1, dtype=torch.int64))
    codes = torch.zeros(2, 1, dtype=torch.uint8)
    with pytest.raises(InvalidInputError, match=r"query labels are torch.int64 \(2,\)"):
        graded_counts(codes, codes, Hamming(8), torch.tensor([0, 1]), torch.tensor([0, 1]))
