"""OSupHash: codewords of classes as they appear, and bits boosted from the first to the last."""

import math

import pytest
import torch

from deephash.projections.online.osuphash import MAX_EXPONENT, OSupHash, boosted_steps, hinge_steps

GENERATOR = torch.Generator().manual_seed(0)


def test_each_bit_takes_the_gradient_of_its_boosted_loss():
    """Against autograd on exp(-Σ_{l<=j} c_l w_lᵀ x), bit after bit."""
    x = torch.randn(5, generator=GENERATOR, dtype=torch.float64) / 3
    codeword = torch.tensor([1.0, -1, -1, 1], dtype=torch.float64)
    weights = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64) / 3
    steps = boosted_steps(((x @ weights) * codeword).tolist(), float(x @ x), 0.1)
    found = weights + torch.outer(x, codeword * torch.tensor(steps))
    expected = weights.clone()
    for j in range(4):
        w = expected[:, j].clone().requires_grad_()
        before = float(((x @ expected) * codeword)[:j].sum())
        torch.exp(-before - codeword[j] * (w @ x)).backward()
        expected[:, j] -= 0.1 * w.grad
    assert torch.allclose(found, expected)


def test_what_earlier_bits_get_wrong_counts_more_up_to_a_bound():
    right, wrong = boosted_steps([2.0, 0.1], 1.0, 0.1), boosted_steps([-0.5, 0.1], 1.0, 0.1)
    assert right[1] < 0.1 < wrong[1]
    hopeless = boosted_steps([-50.0, 0.0], 1.0, 0.1)
    assert max(hopeless) <= 0.1 * math.exp(MAX_EXPONENT)


def test_codewords_come_with_their_classes_and_stay():
    labels = torch.arange(40) % 2
    features = torch.randn(40, 6, generator=GENERATOR)
    projection = OSupHash(6, 16)
    projection.partial_fit(features, labels)
    first = projection.codewords.clone()
    assert first.shape == (2, 16)
    assert bool((first.abs() == 1).all())
    projection.partial_fit(features, labels + 3)
    assert projection.codewords.shape == (5, 16)
    assert projection.classes == 5
    assert torch.equal(projection.codewords[:2], first)


def test_without_boosting_bits_whose_margin_is_short_take_the_step():
    assert hinge_steps([0.2, 1.5, -3.0], 0.1) == [0.1, 0.0, 0.1]


@pytest.mark.parametrize("boosted", [True, False])
def test_codes_come_to_be_the_codewords(boosted):
    # As many dimensions as classes, so that hyperplanes through the mean can tell most codewords.
    labels = torch.randint(6, (900,), generator=GENERATOR)
    features = 4 * torch.eye(8)[labels] + torch.randn(900, 8, generator=GENERATOR)
    projection = OSupHash(8, 8, boosted=boosted)
    projection.partial_fit(features[:20], labels[:20])

    def agreement():
        return float(((projection(features) >= 0) == (projection.codewords[labels] > 0)).float().mean())

    early = agreement()
    projection.partial_fit(features[20:], labels[20:])
    assert agreement() > early + 0.1
    assert agreement() > 0.85


def test_an_item_of_several_labels_is_learnt_for_each():
    features = torch.randn(10, 6, generator=GENERATOR)
    both = torch.zeros(10, 2, dtype=torch.bool)
    both[:, 0] = True
    one, two = OSupHash(6, 8), OSupHash(6, 8)
    one.partial_fit(features, both)
    both[4, 1] = True
    two.partial_fit(features, both)
    assert not torch.equal(one.directions, two.directions)
