"""What every relaxation promises, and broken ones that the checks must refuse."""

import pytest
import torch

from deephash.codes import pack
from deephash.functional.surrogate_gradient import with_gradient_of
from deephash.metrics.average_precision import average_precision
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError

MARGINS = torch.tensor([[-50.0, -1.0, -0.3, -1e-6], [-0.0, 0.0, 0.2, 50.0]])


def check_range_and_zero_rule(relaxation_class):
    for progress in (0, 0.5, 1):
        relaxation = relaxation_class().eval()
        relaxation.set_progress(progress)
        for margins in (MARGINS, MARGINS.double(), MARGINS[:0], MARGINS[0, 0], MARGINS.expand(3, 2, 4)):
            relaxed = relaxation(margins)
            assert relaxed.shape == margins.shape
            assert relaxed.dtype == margins.dtype
            assert bool((relaxed.abs() <= 1).all())
            assert torch.equal(relaxed >= 0, margins >= 0)
        far = relaxation(MARGINS)[:, [0, 3]][[0, 1], [0, 1]]
        assert torch.allclose(far, torch.tensor([-1.0, 1.0])), "far from the threshold a bit is settled"


def check_range_in_training(relaxation_class):
    for progress in (0, 1):
        relaxation = relaxation_class()
        relaxation.set_progress(progress)
        for margins in (MARGINS, MARGINS.double(), MARGINS[:0], MARGINS[0, 0], MARGINS.expand(3, 2, 4)):
            relaxed = relaxation(margins)
            assert relaxed.shape == margins.shape
            assert relaxed.dtype == margins.dtype
            assert bool((relaxed.abs() <= 1).all())


def check_gradient_passes(relaxation_class):
    for mode in (True, False):
        margins = torch.linspace(-0.5, 0.5, 41, requires_grad=True)
        relaxation_class().train(mode)(margins).sum().backward()
        assert bool((margins.grad > 0).all()), "a step's own gradient is zero; a relaxation's is not"


def check_gradient_is_right_where_smooth(relaxation_class):
    margins = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64).requires_grad_()
    relaxation = relaxation_class()

    def relax(margins):
        torch.manual_seed(0)
        return relaxation(margins)

    for mode in (True, False):
        relaxation.train(mode)
        if bool((relax(margins).abs() == 1).all()):
            continue  # Hard forward: its gradient is an estimate, by design not that of the forward value.
        assert torch.autograd.gradcheck(relax, margins)


def check_is_the_same_of_the_same_draws(relaxation_class):
    relaxation = relaxation_class()
    values = []
    for _ in range(2):
        torch.manual_seed(1)
        values.append(relaxation(MARGINS))
    assert torch.equal(*values), "draws come from another generator than torch's default"
    relaxation.eval()
    assert torch.equal(relaxation(MARGINS), relaxation(MARGINS)), "random in evaluation mode"


def check_trains(relaxation_class):
    """A linear map and thresholds, an inner-product loss: codes of the training items get better."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 4
    centres = torch.randn(4, 12, generator=generator)
    features = centres[labels] + 1.5 * torch.randn(64, 12, generator=generator)
    same = (labels[:, None] == labels).float()
    projection, quantizer = torch.nn.Linear(12, 16, bias=False), SBQ(16, relaxation_class())
    with torch.no_grad():
        projection.weight.copy_(torch.randn(16, 12, generator=generator) / 12**0.5)
        quantizer.calibrate(projection(features))

    def loss():
        codes = quantizer.unary(projection(features))
        # Times the code's length, that a bit's share does not vanish beside a relaxation's own pull.
        return 16 * (codes @ codes.T / 16 - (2 * same - 1)).square().mean()

    def hard_loss_and_map():
        quantizer.eval()
        with torch.no_grad():
            value = float(loss())
            codes = pack(quantizer.quantize(projection(features)))
        quantizer.train()
        counts = AutoEngine().rank(codes, codes, quantizer.distance, SharedLabel(labels, labels))
        return value, float(average_precision(counts).mean())

    torch.manual_seed(0)
    quantizer.relaxation.set_progress(1)
    before = hard_loss_and_map()
    optimizer = torch.optim.Adam([*projection.parameters(), *quantizer.parameters()], lr=0.02)
    for step in range(60):
        quantizer.relaxation.set_progress(step / 59)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    after = hard_loss_and_map()
    assert after[0] < 0.9 * before[0], "training does not lower the loss"
    assert after[1] > before[1] + 0.1, "training does not lift mAP"


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
    check_range_in_training,
    check_is_the_same_of_the_same_draws,
    check_trains,
    check_gradient_passes,
    check_gradient_is_right_where_smooth,
    check_progress_is_checked_and_kept,
    check_docstring,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_contract(check, relaxation_class):
    check(relaxation_class)


def check_tends_to_the_code(relaxation_class, quantizer_class, sample):
    """Margins far from their thresholds: what training ends with is what is encoded."""
    quantizer = quantizer_class(12, relaxation=relaxation_class())
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(sample.features.shape[1], quantizer.projection_dim, generator=generator)
    projections = (sample.features - sample.features.mean(0)) @ directions
    quantizer.fit(projections, **sample.supervision(quantizer_class))
    quantizer.relaxation.set_progress(1)
    quantizer.eval()
    # In units so small every margin is large, but those of items at a threshold.
    quantizer.unit = torch.tensor(1e-4)
    bits = quantizer.quantize(projections)
    relaxed = quantizer(projections)
    assert torch.equal(relaxed >= 0, bits), "the step is not the quantiser's own"
    unary = quantizer.unary(projections)
    for values in (relaxed, unary):
        settled = (values.abs() - 1).abs() < 1e-3
        assert settled.float().mean() > 0.999
    codes = pack(bits)
    ids = torch.arange(50)
    distances = quantizer.distance.maximum - unary[ids] @ unary[ids].T
    ranked, order = TorchEngine().search(codes[ids], codes[ids], quantizer.distance, 50)
    expected = torch.empty(50, 50).scatter_(1, order, ranked.float())
    assert torch.allclose(distances / 2, expected, atol=0.1)


def test_every_relaxation_tends_to_every_quantizers_code(relaxation_class, quantizer_class, sample):
    check_tends_to_the_code(relaxation_class, quantizer_class, sample)


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


class RandomForGood(Relaxation):
    """Random in evaluation mode too."""

    def forward(self, margins):
        return (margins + torch.rand_like(margins)).tanh()


class OwnDraws(Relaxation):
    """Draws that no seed repeats."""

    def forward(self, margins):
        return (margins + self.training * torch.rand(1, generator=GENERATOR)).tanh()


GENERATOR = torch.Generator()


class OtherWay(Relaxation):
    """Learns the wrong way round."""

    def forward(self, margins):
        return with_gradient_of(margins.detach().tanh(), -margins)


class Blunt(Relaxation):
    """Never near the step."""

    def forward(self, margins):
        return 0.9 * (1e-4 * margins).tanh()


class OtherSide(Relaxation):
    """The other bit."""

    def forward(self, margins):
        return (-margins).tanh()


BROKEN = [
    (Sign, check_gradient_passes),
    (Identity, check_range_and_zero_rule),
    (Step, check_gradient_passes),
    (WrongGradient, check_gradient_is_right_where_smooth),
    (Identity, check_range_in_training),
    (RandomForGood, check_is_the_same_of_the_same_draws),
    (OwnDraws, check_is_the_same_of_the_same_draws),
    (OtherWay, check_trains),
    (AnyProgress, check_progress_is_checked_and_kept),
    (Step, check_docstring),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN)
def test_contract_refuses_what_breaks_it(broken, check):
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        check(broken)


@pytest.mark.parametrize("broken", [Blunt, OtherSide])
def test_a_step_that_is_not_the_quantizers_is_refused(broken, sample):
    with pytest.raises(AssertionError):
        check_tends_to_the_code(broken, SBQ, sample)
