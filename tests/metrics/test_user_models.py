"""Metrics of user models: against all orders of short tied lists, and against ir-measures on lists without ties."""

import itertools
import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.codes import pack
from deephash.metrics.expected_reciprocal_rank import (
    MAX_RANKS,
    ExpectedReciprocalRank,
    chances_to_pass,
    chances_to_stop,
    expected_reciprocal_rank,
)
from deephash.metrics.expected_search_length import ExpectedSearchLength, expected_search_length
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.ndcg import NDCG, ndcg_at
from deephash.metrics.rank_biased_precision import RankBiasedPrecision, rank_biased_precision
from deephash.metrics.scanning_seconds import ScanningSeconds, scanning_seconds
from deephash.metrics.success import Success, success_at
from deephash.metrics.user_metric import compute_user_figures, find_maximised_figures
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


def ranking_of(*by_grade):
    """A ranking of one query: items of each grade, group by group."""
    return GradedRanking(GradedCounts(torch.tensor([by_grade])))


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
    ranking, lists = GradedRanking(counts_of(groups)), orders(groups)
    for k in range(1, len(lists[0]) + 1):
        values = ndcg_at(ranking, k), expected_reciprocal_rank(ranking, k), success_at(ranking, k)
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
        assert float(rank_biased_precision(ranking, 0.7)) == pytest.approx(expected, abs=1e-12)
    for wanted in (1, 2, 3):
        expected = np.mean([naive_search_length(grades, wanted) for grades in lists])
        assert float(expected_search_length(ranking, wanted)) == pytest.approx(expected, abs=1e-12, nan_ok=True)
        seconds = 2 * (expected + wanted) + 3 * wanted
        assert float(scanning_seconds(ranking, wanted, 2, 3)) == pytest.approx(seconds, abs=1e-12, nan_ok=True)


@pytest.mark.skipif(shutil.which("perl") is None, reason="ERR and exponential nDCG are TREC's own script, in Perl")
def test_equal_ir_measures_without_ties():
    """An independent implementation, on lists of 40 items, each at a distance of its own."""
    measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(0)
    grades = rng.choice(3, p=[0.7, 0.2, 0.1], size=(20, 40))
    counts = GradedCounts(torch.nn.functional.one_hot(torch.from_numpy(grades), 3))
    ranking = GradedRanking(counts)
    to_four = GradedRanking(GradedCounts(torch.nn.functional.pad(counts.by_grade, (0, 2))))
    qrels = [measures.Qrel(str(q), str(i), int(g)) for q, row in enumerate(grades) for i, g in enumerate(row)]
    run = [measures.ScoredDoc(str(q), str(i), 40.0 - i) for q in range(20) for i in range(40)]
    ours = {
        measures.nDCG(dcg="exp-log2") @ 10: ndcg_at(ranking, 10),
        measures.Success(rel=1) @ 3: success_at(ranking, 3),
        # Its grades reach to 4.
        measures.ERR @ 20: expected_reciprocal_rank(to_four, 20),
    }
    for measure, values in ours.items():
        theirs = {row.query_id: row.value for row in measures.iter_calc([measure], qrels, run)}
        # Some of its providers print five digits.
        assert [theirs[str(q)] for q in range(20)] == pytest.approx(values.tolist(), abs=6e-6), str(measure)


def exact_passing(by_grade, depth):
    """Chances to pass t items of a group, in whole numbers: sums over how many of each grade are among the t."""
    highest, size = len(by_grade) - 1, sum(by_grade)
    ways = [Fraction(math.comb(by_grade[0], t)) for t in range(depth + 1)]
    for grade in range(1, highest + 1):
        passed = [
            math.comb(by_grade[grade], x) * (1 - Fraction(2**grade - 1, 2**highest)) ** x for x in range(depth + 1)
        ]
        ways = [sum(passed[x] * ways[t - x] for x in range(t + 1)) for t in range(depth + 1)]
    return [way / math.comb(size, t) if t <= size else Fraction(0) for t, way in enumerate(ways)]


@pytest.mark.parametrize(
    "by_grade", [(950_000, 50_000), (3, 50_000), (50_000, 3), (30, 31), (0, 70), (70, 0), (40_000, 900, 7), (5, 9, 4)]
)
def test_passing_large_groups_is_exact(by_grade):
    pass_one = 1 - chances_to_stop(len(by_grade) - 1)
    found = chances_to_pass(torch.tensor([by_grade], dtype=torch.float64), pass_one, 60)[0]
    assert found.tolist() == pytest.approx([float(chance) for chance in exact_passing(by_grade, 60)], rel=1e-13)


def test_depth_of_expected_reciprocal_rank_is_bounded():
    ranking = ranking_of([1_000_000, 1000])
    deepest = chances_to_pass(torch.tensor([[0.0, 1e9]], dtype=torch.float64), 1 - chances_to_stop(1), MAX_RANKS)
    assert deepest[0].tolist() == pytest.approx([0.5**t for t in range(MAX_RANKS + 1)], rel=1e-12)
    assert 0 < float(expected_reciprocal_rank(ranking, MAX_RANKS)) < 0.01
    for ask in (lambda: expected_reciprocal_rank(ranking, 501), lambda: ExpectedReciprocalRank([501])):
        with pytest.raises(InvalidInputError, match="k=501 of ERR exceeds 500"):
            ask()


def test_success_of_large_groups_is_exact():
    found = float(success_at(ranking_of([5, 0], [1_000_000, 50_000]), 40))
    expected = 1 - Fraction(math.comb(1_000_000, 35), math.comb(1_050_000, 35))
    assert found == pytest.approx(float(expected), rel=1e-14)


METRICS = [
    NDCG([10, 3]),
    ExpectedReciprocalRank(),
    RankBiasedPrecision([0.8, 0.95]),
    ExpectedSearchLength([1, 2]),
    ScanningSeconds(),
    Success(),
]


def test_a_run_s_figures_come_by_name_in_blocks_that_change_no_digit():
    generator = torch.Generator().manual_seed(0)
    by_grade = torch.randint(0, 9, (700, 60, 3), generator=generator)
    by_grade[:, [0, -1]] = 0
    by_grade[::7, :, 1:] = 0
    counts = GradedCounts(by_grade)
    figures = compute_user_figures(METRICS, counts)
    assert list(figures) == [
        "nDCG@10", "nDCG@3", "ERR@20", "RBP_0.8", "RBP_0.95", "search_length@1", "search_length@2",
        "scanning_seconds@1", "success@5",
    ]  # fmt: skip
    assert find_maximised_figures(f"image_to_text/{name}" for name in figures) == [
        f"image_to_text/{name}" for name in [*list(figures)[:5], "success@5"]
    ]
    ranking = GradedRanking(counts)
    for name, values in {"nDCG@3": ndcg_at(ranking, 3), "RBP_0.95": rank_biased_precision(ranking, 0.95)}.items():
        torch.testing.assert_close(figures[name], values, rtol=1e-13, atol=0, equal_nan=True)
    assert all(torch.equal(values.isnan(), torch.arange(700) % 7 == 0) for values in figures.values())
    few = compute_user_figures(METRICS, GradedCounts(by_grade[13:53]), "_graded")
    for (name, values), alone in zip(figures.items(), few.values(), strict=True):
        assert torch.equal(values[13:53].nan_to_num(-1), alone.nan_to_num(-1)), name
    assert "nDCG_graded@10" in few
    assert compute_user_figures([], counts) == {}
    assert all(values.shape == (0,) for values in compute_user_figures(METRICS, GradedCounts(by_grade[:0])).values())


@pytest.mark.parametrize("block_bytes", [2**16, 2**28])
def test_graded_counts_equal_counting(block_bytes):
    generator = torch.Generator().manual_seed(0)
    codes = [pack(torch.rand(n, 12, generator=generator) < 0.5) for n in (7, 500)]
    labels = [torch.rand(n, 4, generator=generator) < 0.4 for n in (7, 500)]
    labels[0][0] = False
    counts = graded_counts(*codes, Hamming(12), *labels, block_bytes=block_bytes)
    bits = [np.unpackbits(code.numpy(), axis=1, bitorder="little") for code in codes]
    distances = (bits[0][:, None] != bits[1][None]).sum(2)
    shared = (labels[0].numpy()[:, None] & labels[1].numpy()[None]).sum(2)
    expected = np.zeros((7, 13, counts.highest + 1), int)
    np.add.at(expected, (np.arange(7)[:, None], distances, shared), 1)
    np.testing.assert_array_equal(counts.by_grade.numpy(), expected)
    ranked = TorchEngine().rank(*codes, Hamming(12), SharedLabels(*labels))
    assert torch.equal(counts.at_least(1).relevant, ranked.relevant)
    assert torch.equal(
        GradedCounts.from_nested(*(counts.at_least(grade + 1) for grade in range(counts.highest))).by_grade,
        counts.by_grade,
    )
    higher = graded_counts(*codes, Hamming(12), *labels, highest=counts.highest + 1)
    assert torch.equal(higher.by_grade, torch.nn.functional.pad(counts.by_grade, (0, 1)))
    with pytest.raises(InvalidInputError, match=f"highest=1; expected at least {counts.highest}, the most labels"):
        graded_counts(*codes, Hamming(12), *labels, highest=1)


def test_refusals():
    counts = counts_of([[0, 1], [2]])
    ranking = GradedRanking(counts)
    with pytest.raises(InvalidInputError, match="k=4 exceeds the 3 items"):
        ndcg_at(ranking, 4)
    with pytest.raises(InvalidInputError, match=r"persistence=1\.0; expected a number between 0 and 1"):
        rank_biased_precision(ranking, 1.0)
    with pytest.raises(InvalidInputError, match="wanted=0"):
        expected_search_length(ranking, 0)
    with pytest.raises(InvalidInputError, match="glance=-1 and reading=5"):
        scanning_seconds(ranking, 1, -1, 5)
    for ask, message in (
        (lambda: NDCG([0]), "k=0"),
        (lambda: Success([True]), "k=True"),
        (lambda: RankBiasedPrecision(["0.5"]), "persistence='0.5'"),
        (lambda: ExpectedSearchLength([0]), "wanted=0"),
        (lambda: ScanningSeconds(glance=-1), "glance=-1"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            ask()
    with pytest.raises(InvalidInputError, match="grade=3 exceeds 2"):
        counts.at_least(3)
    with pytest.raises(InvalidInputError, match="expected int64"):
        GradedCounts(torch.zeros(2, 3, 1, dtype=torch.int64))
    codes = torch.zeros(2, 1, dtype=torch.uint8)
    with pytest.raises(InvalidInputError, match=r"query labels are torch.int64 \(2,\)"):
        graded_counts(codes, codes, Hamming(8), torch.tensor([0, 1]), torch.tensor([0, 1]))
