"""What every relaxation promises, and broken ones that the checks must refuse."""

import pytest
import torch

from deephash.relaxations.base import Relaxation
from deephash.validation import InvalidInputError

MARGINS = torch.tensor([[-50.0, -1.0, -0.3, -1e-6], [-0.0, 0.0, 0.2, 50.0]])


def check_range_and_zero_rule(relaxation_class):
    for progress in (0, 0.5, 1):
        relaxation = relaxation_class()
        relaxation.set_progress(progress)
        for margins in (MARGINS, MARGINS.double(), MARGINS[:0], MARGINS[0, 0]):
            relaxed = relaxation(margins)
            assert relaxed.shape == margins.shape
            assert relaxed.dtype == margins.dtype
            assert bool((relaxed.abs() <= 1).all())
            assert torch.equal(relaxed >= 0, margins >= 0)
        far = relaxation(MARGINS)[:, [0, 3]][[0, 1], [0, 1]]
        assert torch.allclose(far, torch.tensor([-1.0, 1.0])), "far from the threshold a bit is settled"


def check_gradient_passes(relaxation_class):
    margins = torch.tensor([-0.5, -1e-4, 0.0, 1e-4, 0.5], requires_grad=True)
    relaxation_class()(margins).sum().backward()
    assert bool((margins.grad > 0).all()), "a step's own gradient is zero; a relaxation's is not"


def check_gradient_is_right_where_smooth(relaxation_class):
    margins = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64).requires_grad_()
    relaxation = relaxation_class()
    if bool((relaxation(margins).abs() == 1).all()):
        return  # Hard forward: its gradient is an estimate, by design not that of the forward value.
    assert torch.autograd.gradcheck(relaxation, margins)


def check_progress_is_checked_and_kept(relaxation_class):
    relaxation = relaxation_class()
    for bad in (-0.1, 1.5, float("nan"), "half", True):
        with pytest.raises(InvalidInputError, match=f"progress={bad!r}; expected a number from 0 to 1"):
            relaxation.set_progress(bad)
    relaxation.set_progress(0.25)
    assert float(relaxation.state_dict()["progress"]) == 0.25


def check_docstring(relaxation_class):
    for section in ("Shape:", "References:"):
        assert f"{section}\n" in relaxation_class.__doc__, section


CHECKS = [
    check_range_and_zero_rule,
    check_gradient_passes,
    check_gradient_is_right_where_smooth,
    check_progress_is_checked_and_kept,
    check_docstring,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_contract(check, relaxation_class):
    check(relaxation_class)


class Sign(Relaxation):
    """0 at 0, and no gradient."""

    def forward(self, margins):
        return margins.sign() + 0 * margins.detach()


class Identity(Relaxation):
    """Not within [-1, 1]."""

    def forward(self, margins):
        return margins


class Step(Relaxation):
    """Right bits, no gradient."""

    def forward(self, margins):
        return torch.where(margins >= 0, 1.0, -1.0).to(margins.dtype) + 0 * margins


class WrongGradient(Relaxation):
    """tanh with the gradient of half of it."""

    def forward(self, margins):
        return 0.5 * margins.tanh() + 0.5 * margins.tanh().detach()


class AnyProgress(Relaxation):
    """Takes any progress."""

    def forward(self, margins):
        return margins.tanh()

    def set_progress(self, progress):
        pass


BROKEN = [
    (Sign, check_gradient_passes),
    (Identity, check_range_and_zero_rule),
    (Step, check_gradient_passes),
    (WrongGradient, check_gradient_is_right_where_smooth),
    (AnyProgress, check_progress_is_checked_and_kept),
    (Step, check_docstring),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN)
def test_contract_refuses_what_breaks_it(broken, check):
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        check(broken)
