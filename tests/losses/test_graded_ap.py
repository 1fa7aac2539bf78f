"""Graded AP: against a loop over radii, queries and ranks, and which codes it prefers to those of one radius."""

import pytest
import torch

from deephash.losses.ap import AP
from deephash.losses.batch import TrainingBatch
from deephash.losses.graded_ap import GradedAP, neighbours_by_fractions
from deephash.validation import InvalidInputError


def batch_of(codes, features):
    return TrainingBatch(codes, codes, features, torch.arange(len(codes)))


def random_rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_loop_over_radii_and_queries_gives_the_same():
    codes, features = random_rows(12, 9).tanh(), random_rows(12, 4, seed=1)
    # The 66 pairs in the order of their distances; .05 and .3 of them are 3.3 and 19.8, rounded up.
    pairs = sorted((float((features[i] - features[j]).square().sum()), i, j) for i in range(12) for j in range(i))
    losses = []
    for count in (4, 20):
        near = {(i, j) for _, i, j in pairs[:count]} | {(j, i) for _, i, j in pairs[:count]}
        precisions = []
        for i in range(12):
            ranking = sorted((j for j in range(12) if j != i), key=lambda j: -float(codes[i] @ codes[j]))
            hits, value = 0, 0.0
            for rank, j in enumerate(ranking, 1):
                hits += (i, j) in near
                value += ((i, j) in near) * hits / rank
            if hits:
                precisions.append(value / hits)
        losses.append(1 - sum(precisions) / len(precisions))
    found = float(GradedAP((0.05, 0.3), bins=1 << 15)(batch_of(codes, features)))
    assert found == pytest.approx(sum(losses) / 2, abs=1e-3)


def test_one_radius_is_ap():
    codes, features = random_rows(20, 8).sign(), random_rows(20, 3, seed=1)
    (neighbours,) = neighbours_by_fractions(features, [0.1])
    assert int(neighbours.sum()) == 2 * 19
    batch = TrainingBatch(codes, codes, features, torch.arange(20), neighbours=neighbours)
    assert float(GradedAP([0.1])(batch)) == pytest.approx(float(AP()(batch)), abs=1e-12)


def test_the_order_within_the_widest_radius_counts():
    features = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    good = torch.tensor([[-1.0, -1, -1, -1], [1, -1, -1, -1], [1, 1, -1, -1], [1, 1, 1, 1]])
    swapped = good[[0, 2, 1, 3]]
    wide, graded = GradedAP([1.0]), GradedAP([1 / 6, 1.0])
    # Within one radius that holds all pairs, every code is as good.
    assert float(wide(batch_of(good, features))) == pytest.approx(float(wide(batch_of(swapped, features))), abs=1e-6)
    assert float(graded(batch_of(good, features))) + 0.05 < float(graded(batch_of(swapped, features)))


def test_equal_features_are_neighbours_at_every_fraction():
    (neighbours,) = neighbours_by_fractions(torch.ones(5, 3), [0.01])
    assert torch.equal(neighbours, ~torch.eye(5, dtype=torch.bool))


def test_a_single_item_says_nothing():
    codes = torch.ones(1, 4, requires_grad=True)
    value = GradedAP()(batch_of(codes, torch.ones(1, 3)))
    value.backward()
    assert float(value.detach()) == 0
    assert not codes.grad.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "give at least one fraction"),
        (([0.1, 0.0],), "fractions has 0.0"),
        (([1.5],), "fractions has 1.5"),
        (([0.1], 1), "bins=1; expected at least 2"),
    ],
)
def test_settings_are_checked(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        GradedAP(*arguments)
