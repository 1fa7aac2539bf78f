"""The precision-recall curve by radius and its areas, against plain NumPy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from sklearn.metrics import auc, precision_recall_curve

from deephash.metrics.pr_curve import (
    auprc,
    auprc_micro,
    auprc_micro_without_start,
    pr_curve_macro,
    pr_curve_micro,
)
from deephash.metrics.precision_recall import precision_within, recall_within
from deephash.ranking.counts import DistanceCounts


def random_pairs(queries=12, items=300, distances=9, seed=0):
    """Distances and relevance of all pairs, and their counts; the last query has no relevant item."""
    rng = np.random.default_rng(seed)
    distance = rng.binomial(distances - 1, 0.5, (queries, items))
    relevant = rng.random((queries, items)) < 0.6 * np.exp(-distance / 2)
    relevant[-1] = False
    total = np.stack([(distance == d).sum(1) for d in range(distances)], 1)
    hits = np.stack([((distance == d) & relevant).sum(1) for d in range(distances)], 1)
    return distance, relevant, DistanceCounts(torch.from_numpy(total), torch.from_numpy(hits))


def plain_area(distance, relevant):
    """Area by the trapezoid rule, radius by radius, from the first found precision at recall 0."""
    area, last_recall, last_precision = 0.0, 0.0, None
    for radius in range(distance.max() + 1):
        inside = distance <= radius
        if not inside.any():
            continue
        precision, recall = relevant[inside].mean(), relevant[inside].sum() / relevant.sum()
        last_precision = precision if last_precision is None else last_precision
        area += (recall - last_recall) * (precision + last_precision) / 2
        last_recall, last_precision = recall, precision
    return area


def test_areas_equal_plain_loops():
    distance, relevant, counts = random_pairs()
    expected = [plain_area(d, r) for d, r in zip(distance[:-1], relevant[:-1], strict=True)]
    assert auprc(counts)[:-1].tolist() == pytest.approx(expected, abs=1e-14)
    assert auprc(counts)[-1].isnan()
    assert float(auprc(counts).nanmean()) == pytest.approx(np.mean(expected), abs=1e-14)
    assert float(auprc_micro(counts)) == pytest.approx(plain_area(distance, relevant), abs=1e-14)


def test_micro_area_equals_scikit_learn_from_the_same_start():
    distance, relevant, counts = random_pairs(seed=1)
    precision, recall, _ = precision_recall_curve(relevant.ravel(), -distance.ravel().astype(float))
    precision[-1] = precision[-2]  # scikit-learn starts at (0, 1)
    assert float(auprc_micro(counts)) == pytest.approx(auc(recall, precision), abs=1e-13)


def test_area_of_the_published_code():
    distance, relevant, counts = random_pairs(seed=2)
    precision, recall = [], []
    for radius in range(distance.max()):
        inside = distance <= radius
        precision.append(relevant[inside].sum() / inside.sum() if inside.any() else 0.0)
        recall.append(relevant[inside].sum() / relevant.sum())
    expected = trapezoid(precision, recall)
    assert float(auprc_micro_without_start(counts)) == pytest.approx(expected, abs=1e-14)
    assert float(auprc_micro_without_start(counts)) < float(auprc_micro(counts))


def test_extreme_rankings():
    # Everything at one point scores the share of relevant items; a perfect code scores 1, also with all of them at 0.
    one_point = DistanceCounts(torch.tensor([[0, 0, 50, 0]]), torch.tensor([[0, 0, 10, 0]]))
    assert float(auprc_micro(one_point)) == pytest.approx(0.2)
    perfect = DistanceCounts(torch.tensor([[10, 0, 0, 40]]), torch.tensor([[10, 0, 0, 0]]))
    assert float(auprc_micro(perfect)) == 1.0
    assert float(auprc_micro_without_start(perfect)) == 0.0
    nothing = DistanceCounts(torch.tensor([[10, 5]]), torch.tensor([[0, 0]]))
    for area in (auprc_micro, auprc, auprc_micro_without_start):
        assert area(nothing).isnan()


def test_micro_and_macro_weigh_queries_differently():
    # The query with 100 relevant items is ranked badly, the one with 1 perfectly.
    counts = DistanceCounts(torch.tensor([[900, 100], [1, 999]]), torch.tensor([[0, 100], [1, 0]]))
    assert float(auprc(counts).nanmean()) > 0.5 > 0.1 > float(auprc_micro(counts))


def test_micro_curve_pools_pairs():
    distance, relevant, counts = random_pairs(seed=3)
    curve = pr_curve_micro(counts)
    for radius in range(9):
        inside = distance <= radius
        assert float(curve.precision[radius]) == pytest.approx(relevant[inside].mean(), abs=1e-15)
        assert float(curve.recall[radius]) == pytest.approx(relevant[inside].sum() / relevant.sum(), abs=1e-15)
    late = pr_curve_micro(DistanceCounts(torch.tensor([[0, 4, 6]]), torch.tensor([[0, 3, 1]])))
    assert late.precision.tolist() == [0.75, 0.75, 0.4]
    assert late.recall.tolist() == [0.0, 0.75, 1.0]


def test_macro_curve_is_the_mean_within_each_radius():
    *_, counts = random_pairs(queries=5000, items=20, seed=4)
    curve = pr_curve_macro(counts)
    for radius in range(9):
        assert float(curve.precision[radius]) == pytest.approx(float(precision_within(counts, radius).nanmean()))
        assert float(curve.recall[radius]) == pytest.approx(float(recall_within(counts, radius).nanmean()))
    assert pr_curve_macro(DistanceCounts(counts.total[-1:], counts.relevant[-1:])).precision.isnan().all()
