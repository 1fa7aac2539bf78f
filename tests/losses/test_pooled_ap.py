"""Pooled AP: the metric on the pooled counts of hard codes, a loop on relaxed ones, and how it differs from AP."""

import pytest
import torch

from deephash.losses.ap import AP
from deephash.losses.batch import TrainingBatch
from deephash.losses.pooled_ap import PooledAP
from deephash.metrics.average_precision import average_precision
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=labels[:, None] == labels)


def random_codes(n=20, length=10):
    return 1.8 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.9


def test_hard_codes_lose_what_the_metric_of_pooled_counts_lacks():
    codes, labels = random_codes().sign(), torch.arange(20) % 4
    total, relevant = [0] * 11, [0] * 11
    for i in range(20):
        for j in range(i):
            distance = int((codes[i] != codes[j]).sum())
            total[distance] += 1
            relevant[distance] += int(labels[i] == labels[j])
    exact = float(average_precision(DistanceCounts(torch.tensor([total]), torch.tensor([relevant]))))
    assert float(PooledAP()(batch_of(codes, labels))) == pytest.approx(1 - exact, abs=1e-9)


def test_relaxed_codes_lose_what_the_order_of_pairs_lacks_as_bins_narrow():
    codes, labels = random_codes(), torch.arange(20) % 4
    pairs = [(float(codes[i] @ codes[j]), bool(labels[i] == labels[j])) for i in range(20) for j in range(i)]
    hits, value = 0, 0.0
    for rank, (_, neighbour) in enumerate(sorted(pairs, reverse=True), 1):
        hits += neighbour
        value += neighbour * hits / rank
    loss = PooledAP(bins=1 << 15)(batch_of(codes, labels))
    assert float(loss) == pytest.approx(1 - value / hits, abs=1e-3)


def test_one_threshold_must_serve_all_items():
    # Two classes, each ranked perfectly by its own items, but one spread wider than the classes lie apart.
    codes = -torch.ones(4, 10)
    codes[1, :4] = 1  # 4 bits from the first of its class
    codes[2, 4:9] = 1
    codes[3, 4:10] = 1  # 1 bit from the third, 6 and 5 bits at least from the others
    batch = batch_of(codes, torch.tensor([0, 0, 1, 1]))
    assert float(AP()(batch)) == pytest.approx(0, abs=1e-6)
    assert float(PooledAP()(batch)) == pytest.approx(0, abs=1e-6)
    codes[1, :6] = 1  # Now 6 bits, as far as the third from the first is near: 5.
    wide = batch_of(codes, torch.tensor([0, 0, 1, 1]))
    assert float(PooledAP()(wide)) > 0.1


def test_without_neighbours_it_says_nothing():
    for n in (1, 5):
        codes = random_codes(n).requires_grad_()
        value = PooledAP()(batch_of(codes, torch.arange(n)))
        value.backward()
        assert value.item() == 0
        assert not codes.grad.any()


def test_bins_are_checked():
    with pytest.raises(InvalidInputError, match="bins=1; expected at least 2"):
        PooledAP(1)
