"""DSH: against a loop over pairs, its margin in bits, and its pull towards them."""

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.dsh import DSH, contrastive
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=labels[:, None] == labels)


def random_codes(n=9, length=6):
    return 1.8 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.9


@pytest.mark.parametrize("margin", [None, 2.5])
def test_it_is_the_loop_s(margin):
    codes, labels = random_codes(), torch.arange(9) % 3
    costs = []
    for i in range(9):
        for j in range(9):
            if i != j:
                distance = float((codes[i] - codes[j]).square().sum())
                apart = max((12 if margin is None else margin) - distance, 0)
                cost = distance / 2 if labels[i] == labels[j] else apart / 2
                costs.append(cost + 0.5 * sum(float((row.abs() - 1).abs().sum()) for row in (codes[i], codes[j])))
    assert float(DSH(margin, alpha=0.5)(batch_of(codes, labels))) == pytest.approx(sum(costs) / len(costs))


@pytest.mark.parametrize("differing", range(9))
def test_the_margin_is_half_of_the_code(differing):
    codes = torch.ones(2, 8)
    codes[1, :differing] = -1
    expected = max(0, 16 - 4 * differing) / 2
    assert float(DSH()(batch_of(codes, torch.arange(2)))) == expected
    assert float(DSH()(batch_of(codes, torch.zeros(2)))) == 2 * differing


def test_one_item_is_pulled_alone():
    codes = torch.tensor([[0.5, -0.25, 1.0]])
    assert float(contrastive(codes, torch.ones(1, 1, dtype=torch.bool), 6)) == 0
    assert float(DSH(alpha=0.1)(batch_of(codes, torch.zeros(1)))) == pytest.approx(0.1 * 2 * 1.25)


@pytest.mark.parametrize(("settings", "message"), [({"margin": 0}, "margin=0"), ({"alpha": -0.1}, "alpha=-0.1")])
def test_settings_are_checked(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        DSH(**settings)
