"""The bi-half layer against plain loops, and its balanced bits."""

from itertools import product

import pytest
import torch

from deephash.quantizers.relaxations.bi_half import BiHalf, halves
from deephash.validation import InvalidInputError


def margins_of(n, b, seed=0):
    return torch.randn(n, b, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.7


@pytest.mark.parametrize("n", [2, 4, 6])
def test_halves_are_the_nearest_balanced_code(n):
    margins = margins_of(n, 3, seed=n)
    found = halves(margins)
    for j in range(3):
        balanced = [code for code in product((-1.0, 1.0), repeat=n) if sum(code) == 0]
        nearest = min(
            balanced, key=lambda code: sum((c - m) ** 2 for c, m in zip(code, margins[:, j].tolist(), strict=True))
        )
        assert found[:, j].tolist() == list(nearest)


def test_every_bit_splits_every_batch():
    for n in (1, 2, 5, 8, 101):
        sums = BiHalf()(margins_of(n, 4) + 100).sum(0)
        assert sums.tolist() == [n % 2] * 4, "an odd one goes by its sign"
    assert BiHalf()(margins_of(5, 2) - 100).sum(0).tolist() == [-1, -1]


def test_equal_margins_are_split_too():
    assert BiHalf()(torch.zeros(4, 1)).flatten().tolist() == [1, 1, -1, -1]


@pytest.mark.parametrize("gamma", [0.0, 6.0])
def test_gradient_is_the_paper_s(gamma):
    rows = margins_of(6, 3)
    margins = rows.clone().requires_grad_()
    weights = torch.arange(18.0, dtype=torch.float64).view(6, 3)
    (BiHalf(gamma)(margins) * weights).sum().backward()
    for j in range(3):
        order = sorted(range(6), key=lambda i: -float(rows[i, j]))
        for rank, i in enumerate(order):
            assigned = 1 if rank < 3 else -1
            expected = float(weights[i, j]) + gamma / 18 * (float(rows[i, j]) - assigned)
            assert float(margins.grad[i, j]) == pytest.approx(expected, abs=1e-12)


def test_the_pull_alone_leads_to_balanced_signs():
    margins = margins_of(20, 2).requires_grad_()
    layer = BiHalf()
    optimizer = torch.optim.SGD([margins], lr=1.0)
    assert abs(float(layer.eval()(margins).detach().sum())) > 10
    layer.train()
    for _ in range(40):
        optimizer.zero_grad()
        (0 * layer(margins)).sum().backward()
        optimizer.step()
    assert layer.eval()(margins).sum(0).tolist() == [0, 0]


def test_bits_are_signs_in_evaluation_mode():
    margins = margins_of(6, 2) + 100
    assert bool((BiHalf().eval()(margins) == 1).all())


def test_bad_gamma_is_refused():
    with pytest.raises(InvalidInputError, match="gamma=-1; expected 0 or more"):
        BiHalf(-1)
    with pytest.raises(InvalidInputError, match="gamma=nan; expected a finite number"):
        BiHalf(float("nan"))
