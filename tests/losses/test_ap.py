"""The AP loss: 1 - the metric on hard codes, a loop on relaxed ones, and what is left out."""

import pytest
import torch

from deephash.losses.ap import AP
from deephash.losses.batch import TrainingBatch
from deephash.metrics.average_precision import average_precision
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    indicator = torch.nn.functional.one_hot(labels).bool() if labels.ndim == 1 else labels
    neighbours = indicator.float() @ indicator.float().T > 0
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=neighbours)


def random_codes(n=24, length=12, seed=0, dtype=torch.float64):
    return 1.8 * torch.rand(n, length, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 0.9


def metric(codes, labels):
    """Mean average precision of items against the others, by counting."""
    values = []
    for q in range(len(codes)):
        total, relevant = [0] * (codes.shape[1] + 1), [0] * (codes.shape[1] + 1)
        for i in range(len(codes)):
            if i != q:
                distance = int((codes[q] != codes[i]).sum())
                total[distance] += 1
                relevant[distance] += int(labels[q] == labels[i])
        if sum(relevant):
            values.append(average_precision(DistanceCounts(torch.tensor([total]), torch.tensor([relevant]))))
    return float(torch.cat(values).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_codes_lose_what_the_metric_lacks(dtype):
    codes = random_codes(dtype=dtype).sign()
    labels = torch.arange(24) % 5
    labels[-1] = 7  # Alone in its class, so no query.
    assert float(AP()(batch_of(codes, labels))) == pytest.approx(1 - metric(codes, labels), abs=1e-6)


def test_relaxed_codes_lose_what_their_order_lacks_as_bins_narrow():
    codes, labels = random_codes(), torch.arange(24) % 4
    expected = []
    for q in range(24):
        others = sorted((i for i in range(24) if i != q), key=lambda i: -float(codes[q] @ codes[i]))
        hits, value = 0, 0.0
        for rank, i in enumerate(others, 1):
            if labels[i] == labels[q]:
                hits += 1
                value += hits / rank
        expected.append(value / hits)
    loss = AP(bins=1 << 14)(batch_of(codes, labels))
    assert float(loss) == pytest.approx(1 - sum(expected) / 24, abs=1e-3)
    assert abs(float(AP(bins=3)(batch_of(codes, labels))) - float(loss)) > 0.01


def test_neighbours_all_first_is_zero_and_all_last_is_worst():
    corners = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    codes = corners[[0, 0, 0, 1, 1, 1]]
    assert float(AP()(batch_of(codes, torch.tensor([0, 0, 0, 1, 1, 1])))) == pytest.approx(0, abs=1e-6)
    worst = AP()(batch_of(corners[[0, 1, 0, 1]], torch.tensor([0, 0, 1, 1])))
    # The one neighbour of each lies at the far corner with one more item, behind the near one: ranks 2 and 3.
    assert float(worst) == pytest.approx(1 - (1 / 2 + 1 / 3) / 2)


def test_a_batch_without_neighbours_says_nothing():
    for n in (1, 6):
        codes = random_codes(n).requires_grad_()
        value = AP()(batch_of(codes, torch.arange(n)))
        value.backward()
        assert value.item() == 0
        assert not codes.grad.any()


def test_several_labels_are_neighbours_by_one_in_common():
    indicator = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]]).bool()
    codes = random_codes(4).sign()
    neighbours = batch_of(codes, indicator).neighbours
    assert neighbours.int().sum() == 9
    same = torch.tensor([0, 0, 0, 1])
    assert torch.equal(AP()(batch_of(codes, indicator)), AP()(batch_of(codes, same)))


def test_steps_reach_a_perfect_ranking():
    labels = torch.arange(30) % 3
    free = (0.3 * random_codes(30, 16)).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        AP()(batch_of(free.tanh(), labels)).backward()
        optimizer.step()
    assert metric(free.detach().sign(), labels) > 0.99


@pytest.mark.parametrize(("bins", "message"), [(1, "bins=1; expected at least 2"), (2.5, "bins=2.5; expected a whole")])
def test_bins_are_checked(bins, message):
    with pytest.raises(InvalidInputError, match=message):
        AP(bins)
