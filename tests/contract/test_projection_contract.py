"""What every projection promises; each check is a function, so that the last tests can show that it can fail."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError

from deephash.codes import hard_bits
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, NotFittedError

DIMENSION, PROJECTIONS = 16, 11


def fit(projection_class, sample, seed=0, rows=slice(None), **changes):
    projection = projection_class(DIMENSION, PROJECTIONS)
    if sample.features.dtype == torch.float64:
        projection = projection.double()
    given = {**sample.supervision(projection_class, rows), **changes}
    return projection.fit(sample.features[rows], generator=torch.Generator().manual_seed(seed), **given)


def assert_same_state(one, other):
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def check_fit_returns_self_and_leaves_its_input(projection_class, sample):
    before = sample.features.clone()
    projection = projection_class(DIMENSION, PROJECTIONS)
    given = sample.supervision(projection_class)
    assert projection.fit(sample.features, **given) is projection
    assert torch.equal(sample.features, before)
    assert all(parameter.requires_grad for parameter in projection.parameters())
    assert not projection(sample.features.requires_grad_(False)).isnan().any()


def check_fit_depends_on_its_data_alone(projection_class, sample, other_sample):
    fresh = fit(projection_class, sample)
    elsewhere = fit(projection_class, other_sample)
    assert any(not torch.equal(tensor, elsewhere.state_dict()[name]) for name, tensor in fresh.state_dict().items()), (
        "fit learnt nothing from the data"
    )
    generator = torch.Generator().manual_seed(0)
    elsewhere.fit(sample.features, generator=generator, **sample.supervision(projection_class))
    assert_same_state(fresh, elsewhere)


def check_projections_vary(projection_class, sample):
    projections = fit(projection_class, sample)(sample.features)
    assert projections.shape == (len(sample.features), PROJECTIONS)
    assert bool((projections.std(0) > 0).all()), "a projection is constant"


def check_seed_decides(projection_class, sample):
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    one = projection_class(DIMENSION, PROJECTIONS)
    one.fit(sample.features, generator=generator, **sample.supervision(projection_class))
    assert_same_state(one, fit(projection_class, sample, seed=5))
    draws = not torch.equal(before, generator.get_state())
    same = torch.equal(one(sample.features), fit(projection_class, sample, seed=6)(sample.features))
    assert same != draws, "another seed must give other projections exactly where the method draws from it"


def check_global_randomness_is_left_alone(projection_class, sample):
    torch.manual_seed(1)
    one = fit(projection_class, sample)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert_same_state(one, fit(projection_class, sample))
    assert torch.equal(torch.get_rng_state(), before)


def check_row_order_and_blocks_do_not_matter(projection_class, double_sample):
    whole = fit(projection_class, double_sample)
    order = torch.randperm(len(double_sample.features), generator=torch.Generator().manual_seed(3))
    margins = whole(double_sample.features)
    blocks = torch.cat([whole(block) for block in double_sample.features.split(37)])
    # An exact 0, as of an eigenvector outside its part of a graph, is 1 by the zero rule, and as clear.
    clear = (margins.abs() > 1e-5) | (margins == 0)
    assert clear.float().mean() > 0.99
    assert torch.equal(hard_bits(blocks)[clear], hard_bits(margins)[clear])
    if projection_class.samples_rows:
        return  # The order of rows is part of the draw.
    permuted = fit(projection_class, double_sample, rows=order)(double_sample.features)
    assert torch.equal(hard_bits(permuted)[clear], hard_bits(margins)[clear])


def check_gradients(projection_class, sample):
    projection = fit(projection_class, sample)
    features = sample.features[:20].clone().requires_grad_()
    weights = torch.randn(20, PROJECTIONS, generator=torch.Generator().manual_seed(0))
    (projection(features) * weights).sum().backward()
    named = {"features": features, **dict(projection.named_parameters())}
    assert len(named) > 1, "a projection without a Parameter cannot be trained"
    for name, tensor in named.items():
        assert tensor.grad is not None, f"no gradient reaches {name}"
        assert bool(tensor.grad.abs().sum() > 0), f"the gradient of {name} is zero"


def check_gradients_are_right(projection_class, double_sample):
    # Few rows: what is kept of each, as its place for an anchor, is moved number by number.
    projection = fit(projection_class, double_sample, rows=slice(60))
    # Thresholds of a tree lie at the training values: away from them, or a step would show as a slope.
    between = double_sample.features + 1e-3
    if torch.equal(projection(between + 1e-9), projection(between)):
        return  # Steps, as of trees: their gradient is an estimate, by design not that of the forward value.
    names = [name for name, _ in projection.named_parameters()]
    inputs = [double_sample.features[:5], *projection.parameters()]

    def project(features, *parameters):
        return torch.func.functional_call(projection, dict(zip(names, parameters, strict=True)), features)

    assert torch.autograd.gradcheck(project, [tensor.detach().clone().requires_grad_() for tensor in inputs])


def check_precisions(projection_class, sample, double_sample):
    single, double = fit(projection_class, sample), fit(projection_class, double_sample)
    assert single(sample.features).dtype == torch.float32
    assert double(double_sample.features).dtype == torch.float64
    # Weights decide the precision, whatever the features come in.
    assert single(double_sample.features).dtype == torch.float32
    given = double_sample.supervision(projection_class)
    mixed = projection_class(DIMENSION, PROJECTIONS).fit(double_sample.features, **given)
    assert all(not tensor.isnan().any() for tensor in mixed.state_dict().values())


def check_refusals(projection_class, sample):
    features, given = sample.features, sample.supervision(projection_class)
    projection = projection_class(DIMENSION, PROJECTIONS)
    with pytest.raises(NotFittedError, match=f"{projection_class.__name__} is not fitted"):
        projection.check_fitted()
    for bad in (float("nan"), float("inf")):
        broken = features.clone()
        broken[7, 3] = bad
        with pytest.raises(InvalidInputError, match="NaN or infinity in 1 of 400 rows, the first at row 7"):
            projection.fit(broken, **given)
    with pytest.raises(InvalidInputError, match=f"have {DIMENSION - 1} dimensions; expected {DIMENSION}"):
        projection.fit(features[:, 1:], **given)
    with pytest.raises(InvalidInputError, match=r"have shape \(16,\); expected two axes"):
        projection.fit(features[0], **given)
    with pytest.raises(InvalidInputError, match=r"dtype torch\.complex64; expected real numbers"):
        projection.fit(features.to(torch.complex64), **given)
    with pytest.raises(InvalidInputError, match=r"features are of dtype <U3\d; give numbers"):
        projection.fit(features.numpy().astype(str), **given)
    few = projection_class.minimum_rows - 1
    with pytest.raises(InvalidInputError, match=f"have {few} rows; expected at least {few + 1}"):
        projection.fit(features[:few], **sample.supervision(projection_class, slice(few)))
    for name in projection_class.requires:
        with pytest.raises(InvalidInputError, match=f"{projection_class.__name__} is fitted from {name}"):
            projection.fit(features, **{**given, name: None})
    with pytest.raises(InvalidInputError, match="training labels have 3 rows; expected 400"):
        projection.fit(features, **{**given, "labels": torch.zeros(3, dtype=torch.int64)})
    assert not bool(projection.is_fitted)
    for bad in (0, -1, 2.5, True, "8"):
        with pytest.raises(InvalidInputError, match=f"output_dim={bad!r}; expected a whole number"):
            projection_class(DIMENSION, bad)
        with pytest.raises(InvalidInputError, match=f"input_dim={bad!r}; expected a whole number"):
            projection_class(bad, PROJECTIONS)


def check_docstring(projection_class):
    for section in ("Shape:", "References:", "Args:"):
        assert f"{section}\n" in projection_class.__doc__, section


SAMPLE_CHECKS = [
    check_fit_returns_self_and_leaves_its_input,
    check_projections_vary,
    check_seed_decides,
    check_global_randomness_is_left_alone,
    check_gradients,
    check_refusals,
]
DOUBLE_CHECKS = [check_row_order_and_blocks_do_not_matter, check_gradients_are_right]


@pytest.fixture
def double_sample(make_sample):
    return make_sample(dtype=torch.float64)


@pytest.mark.parametrize("check", SAMPLE_CHECKS, ids=lambda check: check.__name__[6:])
def test_contract(check, projection_class, sample):
    check(projection_class, sample)


@pytest.mark.parametrize("check", DOUBLE_CHECKS, ids=lambda check: check.__name__[6:])
def test_contract_in_double_precision(check, projection_class, double_sample):
    check(projection_class, double_sample)


def test_precisions(projection_class, sample, double_sample):
    check_precisions(projection_class, sample, double_sample)


def test_fit_depends_on_its_data_alone(projection_class, sample, make_sample):
    check_fit_depends_on_its_data_alone(projection_class, sample, make_sample(seed=1))


def test_docstring(projection_class):
    check_docstring(projection_class)


def test_odd_numbers_are_fitted_or_refused(projection_class, make_sample, odd_numbers):
    sample = make_sample(rows=60)
    given = sample.supervision(projection_class)
    makers, extremes = odd_numbers
    refused = {}
    for name, make in makers.items():
        rows = make(sample.features)
        projection = projection_class(DIMENSION, PROJECTIONS)
        try:
            projections = projection.fit(rows, **given)(rows)
        except InvalidInputError as error:
            refused[name] = str(error)
            continue
        assert bool(torch.isfinite(projections).all()), name
    assert not refused.keys() & {"half", "offset", "large", "small"}, refused
    assert "NaN" not in " ".join(refused.values())
    for scale, dtype in extremes:
        with pytest.raises(InvalidInputError, match=r"training features reach .* in magnitude; expected a largest"):
            projection_class(DIMENSION, PROJECTIONS).fit(sample.features.to(dtype) * scale, **given)


@pytest.mark.usefixtures("double_by_default")
def test_the_default_dtype_is_the_users(projection_class, make_sample):
    sample = make_sample(rows=60)
    projection = projection_class(DIMENSION, PROJECTIONS)
    projection.fit(sample.features, **sample.supervision(projection_class))
    assert bool(torch.isfinite(projection(sample.features)).all())


def test_arrays_and_numpys_numbers_fit_the_same(projection_class, make_sample):
    sample = make_sample(rows=60)
    given = sample.supervision(projection_class)
    one = projection_class(DIMENSION, PROJECTIONS).fit(sample.features, **given)
    if "labels" in given:
        given["labels"] = given["labels"].numpy().astype(np.uint8)
    array = sample.features.numpy().astype(">f4")
    array.flags.writeable = False
    other = projection_class(np.int64(DIMENSION), np.uint8(PROJECTIONS)).fit(array, **given)
    assert_same_state(one, other)


class Linear(Projection):
    """A projection that keeps the contract, for the broken ones below to break.

    Shape:
        features (n, d) → (n, k).

    Args:
        input_dim: d.
        output_dim: k.

    References:
        None.
    """

    def __init__(self, input_dim, output_dim):
        super().__init__(input_dim, output_dim)
        generator = torch.Generator().manual_seed(0)
        self.directions = nn.Parameter(torch.randn(input_dim, output_dim, generator=generator))
        self.register_buffer("mean", torch.zeros(input_dim))

    def forward(self, features):
        return (features.to(self.directions.dtype) - self.mean) @ self.directions

    def _fit(self, features, labels, affinity, generator):
        self.mean.copy_(features.double().mean(0))


class LearnsNothing(Linear):
    def _fit(self, features, labels, affinity, generator):
        pass


class GoesOnFromBefore(Linear):
    def _fit(self, features, labels, affinity, generator):
        self.mean.add_(features.mean(0))


class ChangesItsInput(Linear):
    def _fit(self, features, labels, affinity, generator):
        features.sub_(features.mean(0))


class Constant(Linear):
    def forward(self, features):
        return super().forward(features) * 0 + self.directions[0]


class LooksAtTheBatch(Linear):
    def forward(self, features):
        return (features - features.mean(0)) @ self.directions


class CutsTheGradient(Linear):
    def forward(self, features):
        return (features - self.mean) @ self.directions.detach()


class HasAWrongGradient(Linear):
    def forward(self, features):
        projections = super().forward(features)
        return projections + (projections * 0.5).detach()


class TakesTheFirstRow(Linear):
    def _fit(self, features, labels, affinity, generator):
        self.mean.copy_(features[0])


class DrawsFromGlobalState(Linear):
    def _fit(self, features, labels, affinity, generator):
        super()._fit(features, labels, affinity, generator)
        self.directions.copy_(torch.randn_like(self.directions))


class IgnoresTheSeed(Linear):
    def _fit(self, features, labels, affinity, generator):
        super()._fit(features, labels, affinity, generator)
        torch.randn(1, generator=generator)


class AcceptsAnything(Linear):
    def fit(self, features, **given):
        return self


class TurnsSingleIntoDouble(Linear):
    def forward(self, features):
        return super().forward(features).double()


class Undocumented(Linear):
    """Says little."""


BROKEN = {
    LearnsNothing: check_fit_depends_on_its_data_alone,
    GoesOnFromBefore: check_fit_depends_on_its_data_alone,
    ChangesItsInput: check_fit_returns_self_and_leaves_its_input,
    Constant: check_projections_vary,
    LooksAtTheBatch: check_row_order_and_blocks_do_not_matter,
    TakesTheFirstRow: check_row_order_and_blocks_do_not_matter,
    CutsTheGradient: check_gradients,
    HasAWrongGradient: check_gradients_are_right,
    DrawsFromGlobalState: check_global_randomness_is_left_alone,
    IgnoresTheSeed: check_seed_decides,
    AcceptsAnything: check_refusals,
    TurnsSingleIntoDouble: check_precisions,
    Undocumented: check_docstring,
}


def arguments_of(check, make_sample):
    double = make_sample(dtype=torch.float64)
    return {
        check_fit_depends_on_its_data_alone: (make_sample(), make_sample(seed=1)),
        check_precisions: (make_sample(), double),
        check_docstring: (),
        **{other: (make_sample(),) for other in SAMPLE_CHECKS},
        **{other: (double,) for other in DOUBLE_CHECKS},
    }[check]


@pytest.mark.parametrize(("broken", "check"), BROKEN.items(), ids=lambda value: value.__name__)
def test_contract_refuses_what_breaks_it(broken, check, make_sample):
    check(Linear, *arguments_of(check, make_sample))
    with pytest.raises((AssertionError, pytest.fail.Exception, GradcheckError)):
        check(broken, *arguments_of(check, make_sample))
