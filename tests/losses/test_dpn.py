"""DPN: a hinge for each bit."""

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.dpn import DPN
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), labels)


def codes_of(n, length):
    return 2 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1


def test_loss_is_its_definition():
    loss = DPN(6, 3, torch.Generator().manual_seed(1), margin=0.7)
    codes, labels = codes_of(5, 6), torch.tensor([0, 1, 2, 2, 0])
    hinges = [max(0.0, 0.7 - float(codes[i, j] * loss.codewords[labels[i], j])) for i in range(5) for j in range(6)]
    assert float(loss(batch_of(codes, labels))) == pytest.approx(sum(hinges) / 30)
    assert 0 in hinges


def test_of_hard_codes_it_is_twice_the_share_of_wrong_bits():
    loss = DPN(32, 10)
    codes = codes_of(10, 32).sign().float()
    wrong = (codes != loss.codewords).float().mean()
    assert torch.allclose(loss(batch_of(codes, torch.arange(10))), 2 * wrong)


def test_it_bounds_the_distance_within_a_class():
    """The paper's Theorem: two items of a class differ in no more bits than their losses' sum, at margin 1."""
    loss = DPN(24, 4)
    codes, labels = codes_of(40, 24), torch.arange(40) % 4
    bits = codes >= 0
    each = [24 * float(loss(batch_of(codes[i : i + 1], labels[i : i + 1]))) for i in range(40)]
    for i in range(40):
        for j in range(i % 4, 40, 4):
            assert int((bits[i] != bits[j]).sum()) <= each[i] + each[j] + 1e-9


def test_bits_on_their_side_by_the_margin_have_no_gradient():
    loss = DPN(8, 2, margin=0.5)
    codes = (0.6 * loss.codewords).requires_grad_()
    loss(batch_of(codes, torch.arange(2))).backward()
    assert not codes.grad.any()


def test_items_without_labels_count_nothing():
    loss = DPN(8, 4)
    codes, labels = codes_of(3, 8), torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]]).bool()
    assert torch.allclose(loss(batch_of(codes, labels)), loss(batch_of(codes[[0, 2]], labels[[0, 2]])))


def test_bad_margins_are_refused():
    with pytest.raises(InvalidInputError, match="margin=0; expected a finite number above 0"):
        DPN(8, 4, margin=0)
