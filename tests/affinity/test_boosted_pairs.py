"""Pairs drawn from an affinity, and their weights from bit to bit."""

import numpy as np
import pytest
import torch

from deephash.affinity import boosted_pairs
from deephash.affinity.boosted_pairs import boost_weights, draw_signed_pairs, sample_pairs
from deephash.affinity.label import Label
from deephash.affinity.supervision import ListedPairs
from deephash.validation import InvalidInputError

LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])


def affinity_of(labels=LABELS):
    return Label().supervise(torch.zeros(len(labels), 2), labels)


def drawn(count, similar, seed=0):
    return sample_pairs(affinity_of(), count, similar, torch.Generator().manual_seed(seed))


def test_similar_pairs_share_a_label_and_dissimilar_ones_do_not():
    pairs, signs = draw_signed_pairs(affinity_of(), 500, torch.Generator().manual_seed(0))
    assert torch.equal(LABELS[pairs[:, 0]] == LABELS[pairs[:, 1]], signs > 0)
    assert (signs > 0).sum() == (signs < 0).sum() == 500


@pytest.mark.parametrize("similar", [True, False])
def test_items_and_their_partners_are_drawn_evenly(similar):
    pairs = drawn(60000, similar)
    counts = torch.bincount(pairs[:, 0] * 10 + pairs[:, 1], minlength=100).view(10, 10) / 60000
    allowed = (LABELS[:, None] == LABELS) == similar
    expected = allowed / allowed.sum(1, keepdim=True) / 10
    torch.testing.assert_close(counts, expected, atol=0.003, rtol=0)


def test_blocks_do_not_matter(monkeypatch):
    whole = drawn(200, similar=True)
    monkeypatch.setattr(boosted_pairs, "BLOCK_ENTRIES", 30)
    assert torch.equal(drawn(200, similar=True), whole)
    assert not torch.equal(drawn(200, similar=True, seed=1), whole)


def test_an_item_without_a_partner_gives_no_pair():
    """Item 2 is everyone's neighbour, so that only 0 and 1 are apart."""
    affinity = ListedPairs(torch.tensor([[0, 2], [1, 2]]), 3)
    pairs = sample_pairs(affinity, 90, False, torch.Generator().manual_seed(0))
    assert 0 < len(pairs) < 90
    assert set(map(tuple, pairs.tolist())) == {(0, 1), (1, 0)}


def test_pairs_of_one_kind_alone_are_refused():
    with pytest.raises(InvalidInputError, match="all training items are neighbours"):
        draw_signed_pairs(affinity_of(torch.zeros(5, dtype=torch.int64)), 10, torch.Generator())
    unlabelled = Label().supervise(torch.zeros(4, 2), torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(InvalidInputError, match="no training item has a neighbour"):
        draw_signed_pairs(unlabelled, 10, torch.Generator())


def test_a_bit_is_right_on_half_of_the_next_ones_weight():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(50, generator=generator, dtype=torch.float64)
    weights /= weights.sum()
    outcomes = torch.where(torch.rand(50, generator=generator) < 0.7, 1.0, -1.0).double()
    new, agreement = boost_weights(weights, outcomes)
    error = sum(float(w) for w, right in zip(weights, outcomes > 0, strict=True) if not right)
    assert agreement == pytest.approx(1 - 2 * error)
    assert float(new.sum()) == pytest.approx(1)
    assert float(new @ outcomes) == pytest.approx(0, abs=1e-12)
    # AdaBoost as it is written: right pairs by β = ε / (1 - ε), then normalised.
    beta = error / (1 - error)
    plain = np.array([float(w) * (beta if right else 1) for w, right in zip(weights, outcomes > 0, strict=True)])
    np.testing.assert_allclose(new.numpy(), plain / plain.sum())


def test_a_fixed_step():
    weights, outcomes = torch.full((4,), 0.25, dtype=torch.float64), torch.tensor([1.0, 1, 1, -1]).double()
    new, _ = boost_weights(weights, outcomes, 1.0)
    assert float(new[3] / new[0]) == pytest.approx(np.e**2)


def test_a_perfect_bit_leaves_finite_weights():
    new, agreement = boost_weights(torch.full((4,), 0.25, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    assert agreement == 1
    torch.testing.assert_close(new, torch.full((4,), 0.25, dtype=torch.float64))
