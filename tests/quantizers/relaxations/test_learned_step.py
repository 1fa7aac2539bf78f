"""The learnt step against LSQ's formulas as plain loops, and in a hasher."""

import pytest
import torch

from deephash.hashers.hasher import Hasher
from deephash.projections.lsh import LSH
from deephash.quantizers.relaxations.learned_step import LearnedStep
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0])
def test_gradients_are_the_quotient_rule_of_lsq_s(size):
    """Eq. 3 and 5 for levels -1 and 1: of v̂ = s·v̄, and from them of v̂/s."""
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    margins = rows.clone().requires_grad_()
    weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    relaxation = LearnedStep(size).double()
    relaxed = relaxation(margins)
    (relaxed * weights).sum().backward()
    of_step = 0.0
    for i in range(5):
        for j in range(4):
            v, level = float(rows[i, j]), 1.0 if rows[i, j] >= 0 else -1.0
            within = abs(v / size) <= 1
            of_v, of_s = (1.0, level - v / size) if within else (0.0, level)
            assert float(relaxed.detach()[i, j]) == level
            assert float(margins.grad[i, j]) == pytest.approx(float(weights[i, j]) * of_v / size)
            # (v̂/s)' = (v̂' - v̂/s) / s.
            of_step += float(weights[i, j]) * (of_s - level) / size
    assert float(relaxation.step.grad) == pytest.approx(of_step / 4**0.5)


def test_far_margins_leave_the_step_alone():
    relaxation = LearnedStep()
    relaxation(torch.tensor([[-3.0, 5.0]])).sum().backward()
    assert float(relaxation.step.grad) == 0


@pytest.mark.parametrize("step", [0.0, -0.5])
def test_a_step_carried_past_zero_comes_back(step):
    relaxation = LearnedStep()
    with torch.no_grad():
        relaxation.step.fill_(step)
    margins = torch.tensor([-0.3, 0.0, 0.3], requires_grad=True)
    relaxed = relaxation(margins)
    relaxed.sum().backward()
    assert relaxed.tolist() == [-1, 1, 1]
    assert bool(margins.grad.isfinite().all())
    assert bool((margins.grad >= 0).all())


def test_the_learnt_step_is_saved_with_the_hasher(tmp_path):
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    hasher = Hasher(LSH(6, 4), SBQ(4, LearnedStep(1.5))).fit(features)
    with torch.no_grad():
        hasher.quantizer.relaxation.step.fill_(0.7)
    hasher.save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert loaded.quantizer.relaxation.initial_step == 1.5
    assert float(loaded.quantizer.relaxation.step.detach()) == pytest.approx(0.7)
    assert loaded.identity == hasher.identity


@pytest.mark.parametrize("step", [0, -1, float("inf"), None])
def test_bad_step_is_refused(step):
    with pytest.raises(InvalidInputError, match=f"initial_step={step!r}; expected a finite number above 0"):
        LearnedStep(step)
