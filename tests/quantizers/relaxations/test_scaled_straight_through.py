"""The straight-through estimator relative to each bit's mean absolute margin."""

import pytest
import torch

from deephash.quantizers.relaxations.scaled_straight_through import ScaledStraightThrough
from deephash.validation import InvalidInputError


@pytest.mark.parametrize("clip", [1.0, 0.5, 2.0])
def test_gradient_is_that_of_the_margin_over_its_bit_s_mean_size(clip):
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [1, 10, 0.1]
    )
    margins = rows.clone().requires_grad_()
    weights = torch.arange(21.0, dtype=torch.float64).view(7, 3) + 1
    relaxed = ScaledStraightThrough(clip)(margins)
    (relaxed * weights).sum().backward()
    for j in range(3):
        alpha = sum(abs(float(rows[i, j])) for i in range(7)) / 7
        for i in range(7):
            passes = abs(float(rows[i, j])) <= clip * alpha
            assert float(relaxed.detach()[i, j]) == (1 if rows[i, j] >= 0 else -1)
            assert float(margins.grad[i, j]) == pytest.approx(float(weights[i, j]) / alpha * passes)


def test_bits_learn_alike_whatever_their_size():
    margins = torch.randn(100, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 1.0, 100.0])
    margins.requires_grad_()
    ScaledStraightThrough()(margins).sum().backward()
    learning = (margins.grad > 0).sum(0).tolist()
    assert learning[0] == learning[1] == learning[2]
    assert 50 < learning[0] < 70
    # What a step of the gradient does to a margin, in margins of its bit.
    moved = margins.grad.amax(0) * margins.detach().abs().mean(0)
    assert torch.allclose(moved, torch.ones(3))


def test_margins_of_zero_learn():
    margins = torch.zeros(4, 2, requires_grad=True)
    relaxed = ScaledStraightThrough()(margins)
    relaxed.sum().backward()
    assert bool((relaxed == 1).all())
    assert bool((margins.grad == 1).all())


@pytest.mark.parametrize("clip", [0, -1, float("nan"), "1"])
def test_bad_clip_is_refused(clip):
    with pytest.raises(InvalidInputError, match=f"clip={clip!r}; expected a finite number above 0"):
        ScaledStraightThrough(clip)
