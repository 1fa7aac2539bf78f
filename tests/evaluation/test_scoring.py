"""Scoring as a library call against a naive computation."""

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.evaluation import ScoreSettings, score_codes, score_counts, scoring
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Asymmetric, Hamming
from deephash.ranking.relevance import SharedLabel, SharedLabels
from deephash.validation import InvalidInputError

BITS = 12


@pytest.fixture
def items():
    generator = torch.Generator().manual_seed(0)
    bits = torch.rand(90, BITS, generator=generator) < 0.5
    return bits, torch.randint(0, 4, (90,), generator=generator)


def naive_ap(distances, relevant):
    """Mean AP over all orders of tied items, by drawing none: each tie's items are spread evenly."""
    order, total, seen, hits = np.unique(distances), 0.0, 0, 0
    for distance in order:
        tied = relevant[distances == distance]
        t, r = len(tied), int(tied.sum())
        for place in range(1, t + 1):
            others = (place - 1) * (r - 1) / (t - 1) if t > 1 else 0
            total += r / t * (hits + 1 + others) / (seen + place)
        seen, hits = seen + t, hits + r
    return total / hits


def test_scores_are_those_of_a_naive_computation(items):
    bits, labels = items
    relevance = SharedLabel(labels[:20], labels[20:])
    settings = ScoreSettings(at=(10,), radii=(3, 99), stable_order=True)
    scores = score_codes(pack(bits[:20]), pack(bits[20:]), relevance, Hamming(BITS), settings=settings)
    distances = (bits[:20, None] != bits[None, 20:]).sum(2).numpy()
    relevant = (labels[:20, None] == labels[None, 20:]).numpy()
    expected = [naive_ap(*query) for query in zip(distances, relevant, strict=True)]
    np.testing.assert_allclose(scores.per_query["mAP"].numpy(), expected, atol=1e-12)
    assert scores.results["mAP"] == pytest.approx(np.mean(expected), abs=1e-12)
    within = [
        found[near <= 3].mean() if (near <= 3).any() else 0 for near, found in zip(distances, relevant, strict=True)
    ]
    assert scores.results["precision@r3"] == pytest.approx(np.mean(within), abs=1e-12)
    assert not any("@r99" in name for name in scores.results)
    stable = []
    for near, found in zip(distances, relevant, strict=True):
        ranked = found[np.argsort(near, kind="stable")]
        stable.append((np.cumsum(ranked)[ranked] / (np.flatnonzero(ranked) + 1)).mean())
    assert scores.results["mAP_stable"] == pytest.approx(np.mean(stable), abs=1e-12)


def test_counts_give_the_scores_of_their_codes(items):
    bits, labels = items
    relevance = SharedLabel(labels[:20], labels[20:])
    distances = (bits[:20, None] != bits[None, 20:]).sum(2)
    near = torch.nn.functional.one_hot(distances, BITS + 1)
    relevant = (labels[:20, None] == labels[None, 20:]).long()
    counts = DistanceCounts(near.sum(1), (near * relevant[:, :, None]).sum(1))
    scores = score_codes(pack(bits[:20]), pack(bits[20:]), relevance, Hamming(BITS))
    assert score_counts(counts).results == scores.results


def test_depths_beyond_the_database(items):
    bits, labels = items
    settings = ScoreSettings(at=(10, 71))
    relevance = SharedLabel(labels[:20], labels[20:])
    with pytest.raises(InvalidInputError, match="k=71 exceeds the 70 items"):
        score_codes(pack(bits[:20]), pack(bits[20:]), relevance, Hamming(BITS), settings=settings)
    assert settings.within(70).at == (10,)


def test_several_labels_give_grades(items):
    from deephash.metrics.ndcg import NDCG

    bits, _ = items
    labels = torch.rand(90, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    relevance = SharedLabels(labels[:20], labels[20:])
    settings = ScoreSettings(user_metrics=(NDCG(at=(10,)),))
    scores = score_codes(pack(bits[:20]), pack(bits[20:]), relevance, Hamming(BITS), settings=settings)
    assert {"nDCG@10", "nDCG_graded@10"} <= scores.results.keys()


def test_an_asymmetric_distance_has_more_queries_than_a_block(items, monkeypatch):
    bits, labels = items
    weights = torch.randint(0, 9, (len(bits), BITS), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    relevance, settings = SharedLabel(labels, labels), ScoreSettings(stable_order=True)
    monkeypatch.setattr(scoring, "RANKED_QUERIES", 7)
    monkeypatch.setattr(scoring, "SORTED_QUERIES", 7)
    scores = score_codes(pack(bits), pack(bits), relevance, Asymmetric(BITS, weights), settings=settings)
    distances = ((bits[:, None] != bits[None]) * weights[:, None]).sum(2).numpy()
    relevant = (labels[:, None] == labels[None]).numpy()
    expected = [naive_ap(*query) for query in zip(distances, relevant, strict=True)]
    np.testing.assert_allclose(scores.per_query["mAP"].numpy(), expected, atol=1e-12)
    ranked = np.take_along_axis(relevant, np.argsort(distances, axis=1, kind="stable"), 1)
    stable = [(np.cumsum(row)[row] / (np.flatnonzero(row) + 1)).mean() for row in ranked]
    np.testing.assert_allclose(scores.per_query["mAP_stable"].numpy(), stable, atol=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query_codes": torch.zeros(5, 2, dtype=torch.uint8)}, "relevance is of 20 queries and there are 5 query"),
        ({"query_codes": torch.zeros(25, 2, dtype=torch.uint8)}, "relevance is of 20 queries and there are 25 query"),
        ({"query_codes": torch.zeros(0, 2, dtype=torch.uint8)}, "query codes have 0 rows; expected at least one"),
        ({"database_codes": torch.zeros(0, 2, dtype=torch.uint8)}, "database codes have 0 rows; expected at least one"),
        ({"query_ids": list(range(20))}, r"query_ids are a list; expected a torch.Tensor int64 \(20,\)"),
        (
            {"query_ids": torch.arange(30)},
            r"query_ids have shape \(30,\) and dtype torch.int64; expected int64 \(20,\)",
        ),
        ({"query_codes": torch.zeros(2, dtype=torch.uint8)}, r"query codes have shape \(2,\)"),
        ({"relevance": np.ones((20, 70), bool)}, "relevance is a ndarray; expected an object of SharedLabel or"),
        ({"distance": "hamming"}, "distance is a str; expected an object of Hamming or"),
        ({"ranking": "numba"}, "ranking is a str; expected an object of RankingEngine"),
        ({"settings": {"at": [5]}}, "settings is a dict; expected an object of ScoreSettings"),
    ],
)
def test_wrong_arguments_are_refused(items, changed, message):
    bits, labels = items
    arguments = {
        "query_codes": pack(bits[:20]),
        "database_codes": pack(bits[20:]),
        "relevance": SharedLabel(labels[:20], labels[20:]),
        "distance": Hamming(BITS),
    }
    with pytest.raises(InvalidInputError, match=message):
        score_codes(**{**arguments, **changed})


def test_codes_are_arrays_or_lists_too(items):
    bits, labels = items
    relevance, codes = SharedLabel(labels[:20], labels[20:]), pack(bits)
    expected = score_codes(codes[:20], codes[20:], relevance, Hamming(BITS)).results["mAP"]
    assert score_codes(codes[:20].numpy(), codes[20:].tolist(), relevance, Hamming(BITS)).results["mAP"] == expected


def test_settings_of_the_wrong_type_are_refused():
    with pytest.raises(InvalidInputError, match=r"^at=5; expected a tuple, for example at=\(5,\)\.$"):
        ScoreSettings(at=5)
    with pytest.raises(InvalidInputError, match=r"^a user metric is a str; expected an object of UserMetric\.$"):
        ScoreSettings(user_metrics=("ndcg",))
    assert ScoreSettings(at=[5, 6]).at == (5, 6)
