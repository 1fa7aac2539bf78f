"""AP by stable sort, against NumPy's stable argsort."""

import numpy as np
import pytest
import torch

from deephash.metrics import stable_order, tie_bounds
from deephash.metrics.stable_order import stable_order_metrics
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError


def ranked(queries=40, items=200, distances=9, seed=0):
    """Stable rankings of random distances as lists of relevance, and as offsets and ranks; query 3 has none."""
    rng = np.random.default_rng(seed)
    distance = rng.binomial(distances - 1, 0.5, (queries, items))
    relevant = rng.random((queries, items)) < 0.1
    relevant[3] = False
    order = np.argsort(distance, axis=1, kind="stable")
    lists = np.take_along_axis(relevant, order, 1)
    offsets = torch.from_numpy(np.concatenate([[0], lists.sum(1).cumsum()]))
    total = np.stack([(distance == d).sum(1) for d in range(distances)], 1)
    hits = np.stack([((distance == d) & relevant).sum(1) for d in range(distances)], 1)
    counts = DistanceCounts(torch.from_numpy(total), torch.from_numpy(hits))
    return lists, offsets, torch.from_numpy(np.nonzero(lists)[1]), counts


def plain(relevance, k, divisor):
    ranks = np.flatnonzero(relevance[:k]) + 1
    if not relevance.any():
        return np.nan
    return np.sum(np.arange(1, len(ranks) + 1) / ranks) / divisor(relevance.sum(), max(len(ranks), 1))


@pytest.mark.parametrize("block", [1, 64, 1 << 22])
def test_equal_plain_sorting(monkeypatch, block):
    monkeypatch.setattr(stable_order, "_BLOCK_RANKS", block)
    lists, offsets, ranks, _ = ranked()
    for k in (1, 7, 50, 200):
        values = stable_order_metrics(offsets, ranks, [k])
        for form, divisor in (
            ("", lambda relevant, hits, k=k: min(k, relevant)),
            ("/relevant", lambda relevant, hits: relevant),
            ("/hits", lambda relevant, hits: hits),
        ):
            expected = [plain(row, k, divisor) for row in lists]
            assert values[f"mAP_stable@{k}{form}"].tolist() == pytest.approx(expected, abs=1e-14, nan_ok=True)
    expected = [plain(row, 200, lambda relevant, hits: relevant) for row in lists]
    assert stable_order_metrics(offsets, ranks)["mAP_stable"].tolist() == pytest.approx(
        expected, abs=1e-14, nan_ok=True
    )


def test_names_and_bounds():
    _, offsets, ranks, counts = ranked()
    values = stable_order_metrics(offsets, ranks, [10])
    assert list(values) == ["mAP_stable", "mAP_stable@10", "mAP_stable@10/hits", "mAP_stable@10/relevant"]
    valid = offsets.diff() > 0
    slack = 1e-13
    for name, side in (
        ("mAP_stable", "average_precision"),
        ("mAP_stable@10", "average_precision_at"),
        ("mAP_stable@10/hits", "average_precision_at_over_hits"),
    ):
        k = (10,) if "@" in name else ()
        best, worst = getattr(tie_bounds, f"best_{side}")(counts, *k), getattr(tie_bounds, f"worst_{side}")(counts, *k)
        assert (values[name][valid] <= best[valid] + slack).all()
        assert (values[name][valid] >= worst[valid] - slack).all()


def test_no_queries_and_no_relevant_items():
    no_queries = stable_order_metrics(torch.tensor([0]), torch.zeros(0, dtype=torch.int64))
    assert no_queries["mAP_stable"].shape == (0,)
    nothing = torch.tensor([0, 0, 0]), torch.zeros(0, dtype=torch.int64)
    assert all(values.isnan().all() for values in stable_order_metrics(*nothing, [3]).values())
    late = torch.tensor([0, 1]), torch.tensor([9])
    assert stable_order_metrics(*late, [3])["mAP_stable@3/hits"].tolist() == [0.0]


def test_bad_input_is_refused():
    offsets, ranks = torch.tensor([0, 1]), torch.tensor([4])
    with pytest.raises(InvalidInputError, match=r"^k=0; expected a whole number of at least 1\.$"):
        stable_order_metrics(offsets, ranks, [0])
    with pytest.raises(InvalidInputError, match=r"^offsets do not rise from 0 to the number of ranks, 1; pass both"):
        stable_order_metrics(torch.tensor([0, 2]), ranks)
