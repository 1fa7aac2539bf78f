"""The accumulating metric: names, means, batches, processes, errors."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from packaging.version import Version
from torchmetrics.retrieval import RetrievalMAP

from deephash.metrics.average_precision import average_precision, average_precision_at
from deephash.metrics.expected_search_length import ExpectedSearchLength
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.hamming_retrieval import HammingRetrieval, per_query_metrics
from deephash.metrics.ndcg import NDCG, ndcg_at
from deephash.metrics.precision_recall import precision_within
from deephash.metrics.success import Success
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.graded_counts import GradedCounts
from deephash.validation import InvalidInputError

MEANS = {
    "whole": ["mAP", "mAP_best", "mAP_worst", "AUPRC_macro"],
    "at 20": ["mAP@20", "mAP_best@20", "mAP_worst@20", "mAP@20/hits", "mAP_best@20/hits", "mAP_worst@20/hits"],
    "at 20, too": ["mAP@20/relevant", "precision@20", "recall@20", "F1@20"],
    "within 2": ["precision@r2", "recall@r2", "F1@r2"],
    "pooled": ["AUPRC_micro", "AUPRC_micro/published", "skipped_queries"],
}


def random_counts(queries=60, distances=17, seed=0):
    """Random counts; every ninth query has no relevant item."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.randint(0, 60, (queries, distances), generator=generator)
    relevant = (total * torch.rand(total.shape, generator=generator) ** 3).long()
    relevant[::9] = 0
    return DistanceCounts(total, relevant), torch.randperm(5000, generator=generator)[:queries]


def rows(counts, index):
    return DistanceCounts(counts.total[index], counts.relevant[index])


def metric_of(counts, ids, batches=None):
    metric = HammingRetrieval(counts.total.shape[1] - 1, at=[20], radii=[2])
    for batch in batches or [slice(None)]:
        metric.update(rows(counts, batch), ids[batch])
    return metric


def test_names_and_means():
    counts, ids = random_counts()
    figures = metric_of(counts, ids).compute()
    assert list(figures) == [name for names in MEANS.values() for name in names]
    assert int(figures["skipped_queries"]) == 7
    for name, values in per_query_metrics(counts, [20], [2]).items():
        kept = values[~values.isnan()].tolist()
        assert len(kept) == 53
        assert float(figures[name]) == math.fsum(kept) / 53
        assert figures[name].dtype == torch.float64
    assert float(figures["mAP"]) == pytest.approx(float(average_precision(counts).nanmean()), abs=1e-15)
    assert float(figures["mAP@20"]) == pytest.approx(float(average_precision_at(counts, 20).nanmean()), abs=1e-15)
    assert float(figures["precision@r2"]) == pytest.approx(float(precision_within(counts, 2).nanmean()), abs=1e-15)
    assert figures["mAP_worst"] < figures["mAP"] < figures["mAP_best"]


def test_batches_and_their_order_change_no_digit():
    counts, ids = random_counts(queries=700)
    whole = metric_of(counts, ids).compute()
    shuffled = torch.randperm(700, generator=torch.Generator().manual_seed(5))
    pieces = metric_of(counts, ids, [shuffled[:13], shuffled[13:13], shuffled[13:400], shuffled[400:]])
    assert all(torch.equal(value, pieces.compute()[name]) for name, value in whole.items())


def test_a_repeated_query_counts_once():
    # What DistributedSampler does to give each process as many queries.
    counts, ids = random_counts()
    padded = metric_of(counts, ids, [slice(0, 40), slice(40, 60), slice(0, 5)])
    assert padded.compute() == metric_of(counts, ids).compute()
    padded.update(rows(counts, slice(0, 1)), ids[1:2])
    with pytest.raises(InvalidInputError, match=rf"^query {int(ids[1])} came twice with different counts; give each"):
        padded.compute()


def test_per_query_is_in_the_order_of_ids():
    counts, ids = random_counts()
    columns = metric_of(counts, ids).per_query()
    order = torch.argsort(ids)
    assert torch.equal(columns["query"], ids[order])
    assert torch.equal(columns["relevant"], counts.relevant.sum(1)[order])
    expected = per_query_metrics(rows(counts, order), [20], [2])
    assert list(columns) == ["query", "relevant", *expected]
    for name, values in expected.items():
        assert torch.equal(columns[name].nan_to_num(-1), values.nan_to_num(-1))


def test_a_query_scores_the_same_whoever_it_comes_with():
    counts, ids = random_counts(queries=2500)
    together = metric_of(counts, ids).per_query()
    chosen = torch.randperm(2500, generator=torch.Generator().manual_seed(1))[:40]
    apart = metric_of(rows(counts, chosen), ids[chosen]).per_query()
    places = torch.searchsorted(together["query"], apart["query"])
    for name, values in apart.items():
        assert torch.equal(together[name][places].nan_to_num(-1), values.nan_to_num(-1))


USER_METRICS = (NDCG(), ExpectedSearchLength(), Success())


def graded_metric_of(graded, ids, batches=(slice(None),), highest=2):
    metric = HammingRetrieval(graded.total.shape[1] - 1, user_metrics=USER_METRICS, highest_grade=highest)
    for batch in batches:
        some = GradedCounts(graded.by_grade[batch])
        metric.update(some.at_least(1), ids[batch], some if highest > 1 else None)
    return metric


def test_metrics_of_users_and_of_grades():
    by_grade = torch.randint(0, 9, (60, 17, 3), generator=torch.Generator().manual_seed(2))
    graded, ids = GradedCounts(by_grade), torch.arange(60)
    plain = graded_metric_of(graded, ids, highest=1)
    without = metric_of(graded.at_least(1), ids).compute()
    figures = plain.compute()
    assert [name for name in figures if name not in without] == ["nDCG@10", "search_length@1", "success@5"]
    metric = graded_metric_of(graded, ids, [slice(20, 60), slice(0, 25)])
    with_grades = metric.compute()
    assert set(with_grades) == {*figures, "nDCG_graded@10"}
    assert all(torch.equal(with_grades[name], value) for name, value in figures.items())
    expected = ndcg_at(GradedRanking(graded), 10)
    torch.testing.assert_close(metric.per_query()["nDCG_graded@10"], expected, rtol=1e-13, atol=0)
    assert float(with_grades["nDCG_graded@10"]) == pytest.approx(float(expected.mean()), rel=1e-13)
    changed = GradedCounts(by_grade[:1].roll(1, 0) + torch.tensor([0, 1, -1]) * (by_grade[:1, :, 2:] > 0))
    metric.update(changed.at_least(1), ids[:1], changed)
    with pytest.raises(InvalidInputError, match="query 0 came twice with different counts"):
        metric.compute()


def test_grades_that_do_not_fit_are_refused():
    graded = GradedCounts(torch.tensor([[[4, 3, 2], [9, 1, 0]]]))
    metric, ids = HammingRetrieval(1, user_metrics=USER_METRICS, highest_grade=2), torch.tensor([0])
    for given, message in (
        (None, "graded counts are none; expected grades up to 2"),
        (GradedCounts.from_counts(graded.at_least(1)), "graded counts are grades up to 1; expected grades up to 2"),
        (GradedCounts(graded.by_grade + 1), "graded counts do not add up to the counts"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            metric.update(graded.at_least(1), ids, given)
    with pytest.raises(InvalidInputError, match="k=10 exceeds the 9 items"):
        HammingRetrieval(0, user_metrics=[NDCG()]).update(DistanceCounts(*([torch.tensor([[9]])] * 2)), ids)
    with pytest.raises(InvalidInputError, match="highest_grade=0"):
        HammingRetrieval(1, highest_grade=0)


def test_curves():
    counts, ids = random_counts()
    curves = metric_of(counts, ids).pr_curve()
    assert list(curves) == ["micro", "macro"]
    assert all(curve.recall.shape == (17,) and float(curve.recall[-1]) == 1.0 for curve in curves.values())


def test_forward_gives_the_batch_and_reset_forgets():
    counts, ids = random_counts()
    metric = metric_of(counts, ids, [slice(0, 30)])
    batch = metric(rows(counts, slice(30, 60)), ids[30:])
    assert batch == metric_of(counts, ids, [slice(30, 60)]).compute()
    assert metric.compute() == metric_of(counts, ids).compute()
    metric.reset()
    metric.update(rows(counts, slice(0, 9)), ids[:9])
    assert metric.compute() == metric_of(counts, ids, [slice(0, 9)]).compute()


def test_only_queries_without_relevant_items_have_no_figures():
    counts = DistanceCounts(torch.full((3, 5), 20), torch.zeros(3, 5, dtype=torch.int64))
    figures = metric_of(counts, torch.arange(3)).compute()
    assert int(figures.pop("skipped_queries")) == 3
    assert all(value.isnan() for value in figures.values())


@pytest.mark.ci
def test_two_processes_give_the_figures_of_one(tmp_path):
    shares = ["0,23,60", "0,60,60", "0,0,60"]  # uneven; one process without a query
    counts, ids = random_counts()
    np.savez(tmp_path / "counts.npz", total=counts.total.numpy(), relevant=counts.relevant.numpy(), ids=ids.numpy())
    script = Path(__file__).with_name("two_process_retrieval.py")
    files = [tmp_path / "rendezvous", tmp_path / "counts.npz", tmp_path]
    # A process without a query is warned by torchmetrics that it computes before an update; here that is meant.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), "2", *files, *shares],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    metric = metric_of(counts, ids)
    figures, columns, curves = metric.compute(), metric.per_query(), metric.pr_curve()
    for path in (tmp_path / f"{rank}-{case}.npz" for rank in range(2) for case in range(3)):
        with np.load(path, allow_pickle=False) as stored:
            for name, value in figures.items():
                assert stored[name] == value.numpy(), (path.name, name)
            for name, column in columns.items():
                assert np.array_equal(stored[f"query:{name}"], column.numpy(), equal_nan=column.is_floating_point())
            for name, curve in curves.items():
                assert np.array_equal(stored[f"curve:{name}"], curve.precision.numpy())


@pytest.mark.skipif(Version(torchmetrics.__version__) < Version("1.8"), reason="torchmetrics 1.8 began to do so")
def test_torchmetrics_own_retrieval_fails_on_hamming_distances():
    distance = torch.tensor([0, 1, 1, 2, 8, 8])
    relevant = torch.tensor([True, True, False, True, True, False])
    query = torch.zeros(6, dtype=torch.int64)
    total = torch.bincount(distance, minlength=9)[None]
    counts = DistanceCounts(total, torch.bincount(distance[relevant], minlength=9)[None])
    metric = HammingRetrieval(8)
    metric.update(counts, torch.tensor([0]))
    ours = float(metric.compute()["mAP"])

    def orders():
        for first in (1, 2):
            for last in (4, 5):
                yield relevant[[0, first, 3 - first, 3, last, 9 - last]]

    values = [float((r.cumsum(0) / torch.arange(1, 7))[r].mean()) for r in orders()]
    assert ours == pytest.approx(np.mean(values), abs=1e-7)

    # Scores of 0 or less count as not relevant: minus the distance makes every ranking worth 0, without a word.
    assert float(RetrievalMAP()(-distance.float(), relevant, query)) == 0.0
    # Bits less distance is positive but for items at the largest distance: relevant ones there count as not relevant,
    # and the value is better than any order of the ranking deserves.
    assert float(RetrievalMAP()(8 - distance.float(), relevant, query)) > max(values) + 0.02


def test_torchmetrics_own_retrieval_depends_on_the_order_of_tied_items():
    tied, query = torch.ones(10), torch.zeros(10, dtype=torch.int64)
    relevant = torch.arange(10) < 3
    values = {
        round(float(RetrievalMAP()(tied, relevant[torch.randperm(10, generator=g)], query)), 6)
        for g in [torch.Generator().manual_seed(seed) for seed in range(20)]
    }
    assert max(values) - min(values) > 0.2
    metric = HammingRetrieval(0)
    metric.update(DistanceCounts(torch.tensor([[10]]), torch.tensor([[3]])), torch.tensor([0]))
    assert min(values) < float(metric.compute()["mAP"]) < max(values)


def good():
    return DistanceCounts(torch.tensor([[1, 3, 0]]), torch.tensor([[1, 0, 0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HammingRetrieval(8, at=[0]), "k=0; expected a whole number of at least 1."),
        (lambda: HammingRetrieval(8, radii=[-1]), "radius=-1; expected a whole number of at least 0."),
        (
            lambda: HammingRetrieval(8, radii=[9]),
            "radius=9 exceeds 8, the largest distance of these codes; lower it.",
        ),
        (
            lambda: HammingRetrieval(2, at=[5]).update(good(), torch.tensor([0])),
            "k=5 exceeds the 4 items that are ranked; lower k.",
        ),
        (
            lambda: HammingRetrieval(8).update(good(), torch.tensor([0])),
            "counts reach to distance 2; expected 8, the largest distance that this metric was built for.",
        ),
        (
            lambda: HammingRetrieval(2).update(good(), torch.tensor([0, 1])),
            "query_ids have shape (2,) and dtype torch.int64; expected int64 (1,), one id per query.",
        ),
        (
            lambda: HammingRetrieval(2).update(good(), torch.tensor([0.0])),
            "query_ids have shape (1,) and dtype torch.float32; expected int64 (1,), one id per query.",
        ),
        (
            lambda: HammingRetrieval(2).update(DistanceCounts(good().relevant, good().total), torch.tensor([0])),
            "row 0 counts 3 relevant items among 0 at distance 1; relevant items are part of the total: count both "
            "over one database.",
        ),
        (
            lambda: HammingRetrieval(2).update(DistanceCounts(good().total, -good().relevant), torch.tensor([0])),
            "relevant counts hold -1; a count is at least 0.",
        ),
        (
            lambda: HammingRetrieval(2).update(DistanceCounts(good().total, good().relevant[0]), torch.tensor([0])),
            "counts have shapes (1, 3) and (3,); expected (q, D + 1) for both.",
        ),
        (
            lambda: HammingRetrieval(2).update(
                DistanceCounts(good().total, good().relevant.float()), torch.tensor([0])
            ),
            "counts have dtypes torch.int64 and torch.float32; expected torch.int64 for both.",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidInputError) as error:
        call()
    assert str(error.value) == message


def test_figures_of_no_queries_are_refused():
    metric = HammingRetrieval(2)
    none = DistanceCounts(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64))
    metric.update(none, torch.zeros(0, dtype=torch.int64))
    for ask in (metric.compute, metric.per_query, metric.pr_curve):
        with pytest.raises(InvalidInputError, match=r"^no query was added; call update before compute\.$"):
            ask()
