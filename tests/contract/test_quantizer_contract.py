"""What every quantiser promises, and broken ones that the checks must refuse."""

import pytest
import torch
from torch import nn

from deephash.codes import pack
from deephash.quantizers.base import Quantizer
from deephash.ranking.distance import Hamming
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError, NotFittedError

BITS = 12


def projections_of(sample, quantizer):
    """Centred projections of as many dimensions as a quantiser takes."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(sample.features.shape[1], quantizer.projection_dim, generator=generator)
    return (sample.features - sample.features.mean(0)) @ directions.to(sample.features.dtype)


def fit(quantizer_class, sample, seed=0):
    quantizer = quantizer_class(BITS)
    generator = torch.Generator().manual_seed(seed)
    given = sample.supervision(quantizer_class)
    return quantizer.fit(projections_of(sample, quantizer), generator=generator, **given)


def check_fit(quantizer_class, sample):
    quantizer = quantizer_class(BITS)
    projections = projections_of(sample, quantizer)
    before = projections.clone()
    assert quantizer.fit(projections, **sample.supervision(quantizer_class)) is quantizer
    assert torch.equal(projections, before)
    fitted = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.add_(1)
    quantizer.fit(projections, **sample.supervision(quantizer_class))
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, fitted[name]), f"{name} depends on what was there before"


def check_bits(quantizer_class, sample):
    quantizer = fit(quantizer_class, sample)
    projections = projections_of(sample, quantizer)
    bits = quantizer.quantize(projections)
    assert bits.dtype == torch.bool
    assert bits.shape == (len(projections), BITS)
    shares = bits.float().mean(0)
    assert bool(((shares > 0) & (shares < 1)).all()), "a bit is constant"
    assert torch.equal(quantizer(projections) >= 0, bits), "hard and relaxed bits differ"
    assert bool((quantizer(projections).abs() <= 1).all())
    assert quantizer.distance.code_bits == BITS
    for rows in (0, 1):
        assert quantizer.quantize(projections[:rows]).shape == (rows, BITS)
        assert torch.equal(quantizer.quantize(projections[:rows]), bits[:rows])


def check_unary(quantizer_class, sample):
    quantizer = fit(quantizer_class, sample)
    projections = projections_of(sample, quantizer)[:50]
    codes = pack(quantizer.quantize(projections))
    unary = quantizer.unary(projections)
    assert unary.shape == (50, quantizer.distance.maximum)
    hard = torch.where(unary >= 0, 1.0, -1.0)
    distances = (hard.shape[1] - hard @ hard.T) / 2
    rank = TorchEngine().search(codes, codes, quantizer.distance, 50)
    expected = torch.empty(50, 50, dtype=torch.int64).scatter_(1, rank[1], rank[0].long())
    assert torch.equal(distances.long(), expected), "codes are ranked by other distances than losses see"


def check_calibration(quantizer_class, sample):
    quantizer = fit(quantizer_class, sample)
    projections = projections_of(sample, quantizer)
    bits, relaxed = quantizer.quantize(projections), quantizer.unary(projections) >= 0
    assert quantizer.calibrate(projections) is quantizer
    assert quantizer.unit.shape == (quantizer.projection_dim,)
    assert torch.equal(quantizer.quantize(projections), bits)
    changed = (quantizer.unary(projections) >= 0) != relaxed
    assert changed.float().mean() < 1e-3, "units moved a threshold"
    assert "unit" not in quantizer.state_dict()


def check_gradients(quantizer_class, sample):
    quantizer = quantizer_class(BITS)
    # Small, so that thresholds lie near enough for a straight-through estimator to pass gradients.
    projections = 0.1 * projections_of(sample, quantizer)
    quantizer.fit(projections, **sample.supervision(quantizer_class))
    projections.requires_grad_()
    weights = torch.randn(BITS, generator=torch.Generator().manual_seed(0))
    (quantizer(projections) * weights).sum().backward()
    named = {"projections": projections, **dict(quantizer.named_parameters())}
    assert len(named) > 1, "a quantiser without a Parameter cannot be trained"
    for name, tensor in named.items():
        assert tensor.grad is not None, f"no gradient reaches {name}"
        assert bool(tensor.grad.abs().sum() > 0), f"the gradient of {name} is zero"


def check_refusals(quantizer_class, sample):
    quantizer = quantizer_class(BITS)
    k = quantizer.projection_dim
    with pytest.raises(NotFittedError, match=f"{quantizer_class.__name__} is not fitted"):
        quantizer.check_fitted()
    projections = projections_of(sample, quantizer)
    with pytest.raises(InvalidInputError, match=f"projections have {k - 1} dimensions; expected {k}"):
        quantizer.fit(projections[:, 1:])
    with pytest.raises(InvalidInputError, match="projections have 0 rows; expected at least 1"):
        quantizer.fit(projections[:0])
    with pytest.raises(InvalidInputError, match="projections contain NaN or infinity in 400 of 400 rows"):
        quantizer.fit(projections * float("nan"))
    with pytest.raises(InvalidInputError, match="training labels have 3 rows; expected 400"):
        quantizer.fit(projections, labels=torch.zeros(3, dtype=torch.int64))
    for bad in (0, -8, 1.5, True, "64", None):
        with pytest.raises(InvalidInputError, match=f"bits={bad!r}; expected a whole number"):
            quantizer_class(bad)


def check_docstring(quantizer_class):
    for section in ("Shape:", "References:", "Args:"):
        assert f"{section}\n" in quantizer_class.__doc__, section


CHECKS = [check_fit, check_bits, check_unary, check_calibration, check_gradients, check_refusals]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_contract(check, quantizer_class, sample):
    check(quantizer_class, sample)


def test_docstring(quantizer_class):
    check_docstring(quantizer_class)


class Threshold(Quantizer):
    """A quantiser that keeps the contract, for the broken ones below to break."""

    def __init__(self, bits):
        super().__init__(bits)
        self.thresholds = nn.Parameter(torch.zeros(bits))

    @property
    def projection_dim(self):
        return self.bits

    @property
    def distance(self):
        return Hamming(self.bits)

    def forward(self, projections):
        return ((projections - self.thresholds) / self.unit).tanh()

    def unary(self, projections):
        return self.forward(projections)

    def quantize(self, projections):
        return projections >= self.thresholds

    def _fit(self, projections, labels, affinity, generator):
        self.thresholds.copy_(projections.mean(0))


class LearnsNothing(Threshold):
    def _fit(self, projections, labels, affinity, generator):
        pass


class AllOnes(Threshold):
    def quantize(self, projections):
        return torch.ones(projections.shape, dtype=torch.bool)


class OtherSide(Threshold):
    def quantize(self, projections):
        return projections < self.thresholds


class Detached(Threshold):
    def forward(self, projections):
        return (projections - self.thresholds.detach()).tanh()


class OtherDistance(Threshold):
    def unary(self, projections):
        relaxed = self.forward(projections)
        return torch.cat([relaxed[:, :1], relaxed[:, :-1]], 1)


class MovedByUnits(Threshold):
    def quantize(self, projections):
        return projections / self.unit >= self.unit + self.thresholds - 1


class AcceptsAnything(Threshold):
    def fit(self, projections, **given):
        return self


BROKEN = [
    (LearnsNothing, check_fit),
    (AllOnes, check_bits),
    (OtherSide, check_bits),
    (OtherDistance, check_unary),
    (MovedByUnits, check_calibration),
    (Detached, check_gradients),
    (AcceptsAnything, check_refusals),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN)
def test_contract_refuses_what_breaks_it(broken, check, sample):
    check(Threshold, sample)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(broken, sample)
