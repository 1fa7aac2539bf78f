"""What every paired projection promises; each check is a function, so that the last tests can show that it can fail."""

import pytest
import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError

from deephash.codes import hard_bits
from deephash.data.views import Views
from deephash.projections.base import Projection
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import InvalidInputError, NotFittedError

DIMENSIONS, PROJECTIONS = {"image": 12, "text": 8}, 6


def build(paired_class):
    return paired_class(DIMENSIONS, PROJECTIONS)


def fit(paired_class, sample, seed=0, rows=slice(None), **changes):
    projection = build(paired_class)
    if sample.features.of("image").dtype == torch.float64:
        projection = projection.double()
    given = {**sample.supervision(paired_class, rows), **changes}
    return projection.fit(sample.features[rows], generator=torch.Generator().manual_seed(seed), **given)


def project(projection, features):
    return {name: projection.view(name)(features.of(name)) for name in features.names}


def assert_same_state(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def check_fit_returns_self_and_leaves_its_input(paired_class, sample):
    before = {name: sample.features.of(name).clone() for name in DIMENSIONS}
    projection = build(paired_class)
    assert projection.fit(sample.features, **sample.supervision(paired_class)) is projection
    assert all(torch.equal(sample.features.of(name), rows) for name, rows in before.items())
    assert all(parameter.requires_grad for parameter in projection.parameters())
    assert all(bool(projection.view(name).is_fitted) for name in DIMENSIONS)


def check_fit_depends_on_its_data_alone(paired_class, sample, other_sample):
    fresh = fit(paired_class, sample)
    elsewhere = fit(paired_class, other_sample)
    for name in DIMENSIONS:
        states = zip(fresh.view(name).state_dict().values(), elsewhere.view(name).state_dict().values(), strict=True)
        assert any(not torch.equal(one, other) for one, other in states), f"fit learnt nothing of {name}"
    generator = torch.Generator().manual_seed(0)
    elsewhere.fit(sample.features, generator=generator, **sample.supervision(paired_class))
    assert_same_state(fresh, elsewhere)


def check_projections_vary(paired_class, sample):
    for projections in project(fit(paired_class, sample), sample.features).values():
        assert projections.shape == (len(sample.features), PROJECTIONS)
        assert not projections.isnan().any()
        assert bool((projections.std(0) > 0).all()), "a projection is constant"


def check_views_share_a_space(paired_class, sample):
    """Bits of an image and its text agree more often than those of an image and another class's text."""
    projection = fit(paired_class, sample)
    one, other = (
        hard_bits(rows - rows.mean(0)).float() * 2 - 1 for rows in project(projection, sample.features).values()
    )
    agreement = (one @ other.T) / PROJECTIONS
    apart = sample.labels[:, None] != sample.labels
    assert float(agreement.diagonal().mean() - agreement[apart].mean()) > 0.1


def check_seed_decides(paired_class, sample):
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    one = build(paired_class)
    one.fit(sample.features, generator=generator, **sample.supervision(paired_class))
    assert_same_state(one, fit(paired_class, sample, seed=5))
    if torch.equal(before, generator.get_state()):
        assert_same_state(one, fit(paired_class, sample, seed=6))
        return
    here, there = (project(projection, sample.features) for projection in (one, fit(paired_class, sample, seed=6)))
    assert any(not torch.equal(here[name], there[name]) for name in DIMENSIONS), "the seed changes nothing"


def check_global_randomness_is_left_alone(paired_class, sample):
    torch.manual_seed(1)
    one = fit(paired_class, sample)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert_same_state(one, fit(paired_class, sample))
    assert torch.equal(torch.get_rng_state(), before)


def check_row_order_and_blocks_do_not_matter(paired_class, double_sample):
    whole = fit(paired_class, double_sample)
    order = torch.randperm(len(double_sample.features), generator=torch.Generator().manual_seed(3))
    permuted = None if paired_class.samples_rows else fit(paired_class, double_sample, rows=order)
    for name in DIMENSIONS:
        rows = double_sample.features.of(name)
        margins = whole.view(name)(rows)
        clear = (margins.abs() > 1e-5 * margins.abs().mean()) | (margins == 0)
        assert clear.float().mean() > 0.99
        blocks = torch.cat([whole.view(name)(block) for block in rows.split(37)])
        assert torch.equal(hard_bits(blocks)[clear], hard_bits(margins)[clear])
        if permuted is not None:
            assert torch.equal(hard_bits(permuted.view(name)(rows))[clear], hard_bits(margins)[clear])


def check_gradients(paired_class, sample):
    projection = fit(paired_class, sample)
    weights = torch.randn(20, PROJECTIONS, generator=torch.Generator().manual_seed(0))
    for name in DIMENSIONS:
        features = sample.features.of(name)[:20].clone().requires_grad_()
        (projection.view(name)(features) * weights).sum().backward()
        assert features.grad is not None, f"no gradient reaches the features of {name}"
        assert bool(features.grad.abs().sum() > 0), f"the gradient of the features of {name} is zero"
    named = dict(projection.named_parameters())
    assert len(named) > 1, "a projection without a Parameter cannot be trained"
    for name, tensor in named.items():
        assert tensor.grad is not None, f"no gradient reaches {name}"
        assert bool(tensor.grad.abs().sum() > 0), f"the gradient of {name} is zero"


def check_gradients_are_right(paired_class, double_sample):
    projection = fit(paired_class, double_sample)
    for name in DIMENSIONS:
        view, rows = projection.view(name), double_sample.features.of(name)
        if torch.equal(view(rows + 1e-9), view(rows)):
            continue  # Steps, as of trees: their gradient is an estimate, by design not that of the forward value.
        names = [parameter for parameter, _ in view.named_parameters()]
        inputs = [rows[:3], *view.parameters()]

        def forward(features, *parameters, view=view, names=names):
            return torch.func.functional_call(view, dict(zip(names, parameters, strict=True)), features)

        inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        # Along random directions, for kernel views have thousands of weights.
        assert torch.autograd.gradcheck(forward, inputs, fast_mode=True)


def check_precisions(paired_class, sample, double_sample):
    single, double = fit(paired_class, sample), fit(paired_class, double_sample)
    for name in DIMENSIONS:
        assert single.view(name)(sample.features.of(name)).dtype == torch.float32
        assert double.view(name)(double_sample.features.of(name)).dtype == torch.float64
        # Weights decide the precision, whatever the features come in.
        assert single.view(name)(double_sample.features.of(name)).dtype == torch.float32
    mixed = build(paired_class).fit(double_sample.features, **double_sample.supervision(paired_class))
    assert all(not tensor.isnan().any() for tensor in mixed.state_dict().values())


def check_incomplete_pairs_are_left_out(paired_class, sample):
    """Missing on either side, a pair is left out of the fit, with its label and its neighbours."""
    n = len(sample.features)
    present = {"image": torch.arange(n) % 10 != 3, "text": torch.arange(n) % 15 != 7}
    features = {name: rows.clone() for name, rows in sample.features.features.items()}
    for name, rows in features.items():
        rows[~present[name]] = 0
    partial = build(paired_class)
    given = sample.supervision(paired_class)
    partial.fit(Views(features, present), generator=torch.Generator().manual_seed(0), **given)
    complete = (present["image"] & present["text"]).nonzero()[:, 0]
    assert_same_state(partial, fit(paired_class, sample, rows=complete))


def check_learnt_codes(paired_class, sample):
    """Codes that a fit learns for its pairs are bits, a row for each pair and a column for each projection."""
    codes = fit(paired_class, sample).learnt_codes
    if codes is not None:
        assert codes.shape == (len(sample.features), PROJECTIONS)
        assert codes.dtype == torch.bool
        assert not codes.requires_grad


def check_refusals(paired_class, sample):
    features, given = sample.features, sample.supervision(paired_class)
    projection = build(paired_class)
    with pytest.raises(NotFittedError, match=f"{paired_class.__name__} is not fitted"):
        projection.check_fitted()
    for name in DIMENSIONS:
        for bad in (float("nan"), float("inf")):
            broken = {view: rows.clone() for view, rows in features.features.items()}
            broken[name][7, 3] = bad
            with pytest.raises(InvalidInputError, match=f"{name} features contain NaN or infinity in 1 of .* at row 7"):
                projection.fit(Views(broken), **given)
    image, text = features.of("image"), features.of("text")
    for others in ({"image": image[:, 1:], "text": text}, {"image": image, "sound": text}):
        with pytest.raises(InvalidInputError, match=f"{paired_class.__name__} was built for views"):
            projection.fit(Views(others), **given)
    with pytest.raises(InvalidInputError, match=r"dtype torch\.complex64; expected real numbers"):
        projection.fit(Views({"image": image, "text": text.to(torch.complex64)}), **given)
    few = paired_class.minimum_rows - 1
    with pytest.raises(InvalidInputError, match=f"have {few} rows; expected at least {few + 1}"):
        projection.fit(features[:few], **sample.supervision(paired_class, slice(few)))
    present = {"image": torch.arange(len(features)) < few, "text": torch.ones(len(features), dtype=torch.bool)}
    with pytest.raises(InvalidInputError, match=f"have {few} rows; expected at least {few + 1}"):
        projection.fit(Views(features.features, present), **given)
    for name in paired_class.requires:
        with pytest.raises(InvalidInputError, match=f"{paired_class.__name__} is fitted from {name}"):
            projection.fit(features, **{**given, name: None})
    with pytest.raises(InvalidInputError, match=f"training labels have 3 rows; expected {len(features)}"):
        projection.fit(features, **{**given, "labels": torch.zeros(3, dtype=torch.int64)})
    with pytest.raises(InvalidInputError, match=r"view='sound'; expected one of: image, text"):
        projection.view("sound")
    assert not any(bool(projection.view(name).is_fitted) for name in DIMENSIONS)
    for bad in (0, -1, 2.5, True, "8"):
        with pytest.raises(InvalidInputError, match=f"output_dim={bad!r}; expected a whole number"):
            paired_class(DIMENSIONS, bad)
        with pytest.raises(InvalidInputError, match=rf"input_dims\[text\]={bad!r}; expected a whole number"):
            paired_class({"image": 12, "text": bad}, PROJECTIONS)
    for views in ({"image": 12}, {"image": 12, "text": 8, "sound": 8}):
        with pytest.raises(InvalidInputError, match=f"takes 2 views, and the data have {len(views)}"):
            paired_class(views, PROJECTIONS)


def check_docstring(paired_class):
    for section in ("Known weakness: ", "Shape:\n", "References:\n", "Args:\n"):
        assert section in paired_class.__doc__, section


SAMPLE_CHECKS = [
    check_fit_returns_self_and_leaves_its_input,
    check_projections_vary,
    check_views_share_a_space,
    check_seed_decides,
    check_global_randomness_is_left_alone,
    check_incomplete_pairs_are_left_out,
    check_learnt_codes,
    check_gradients,
    check_refusals,
]
DOUBLE_CHECKS = [check_row_order_and_blocks_do_not_matter, check_gradients_are_right]


@pytest.fixture
def double_sample(make_paired_sample):
    return make_paired_sample(dtype=torch.float64)


@pytest.mark.parametrize("check", SAMPLE_CHECKS, ids=lambda check: check.__name__[6:])
def test_contract(check, paired_class, paired_sample):
    check(paired_class, paired_sample)


@pytest.mark.parametrize("check", DOUBLE_CHECKS, ids=lambda check: check.__name__[6:])
def test_contract_in_double_precision(check, paired_class, double_sample):
    check(paired_class, double_sample)


def test_precisions(paired_class, paired_sample, double_sample):
    check_precisions(paired_class, paired_sample, double_sample)


def test_fit_depends_on_its_data_alone(paired_class, paired_sample, make_paired_sample):
    check_fit_depends_on_its_data_alone(paired_class, paired_sample, make_paired_sample(seed=1))


def test_docstring(paired_class):
    check_docstring(paired_class)


def test_odd_numbers_are_fitted_or_refused(paired_class, make_paired_sample, odd_numbers):
    sample = make_paired_sample(rows=60)
    given = sample.supervision(paired_class)
    makers, extremes = odd_numbers
    refused = {}
    for kind, make in makers.items():
        views = Views({name: make(rows) for name, rows in sample.features.features.items()})
        projection = build(paired_class)
        try:
            projection.fit(views, **given)
        except InvalidInputError as error:
            refused[kind] = str(error)
            continue
        for name in views.names:
            assert bool(torch.isfinite(projection.view(name)(views.of(name))).all()), kind
    # Shares, which lie in [0, 1], are lost in float32 beside an offset of a million.
    assert not refused.keys() & {"half", "large", "small"}, refused
    assert "NaN" not in " ".join(refused.values())
    for scale, dtype in extremes:
        views = Views({name: rows.to(dtype) * scale for name, rows in sample.features.features.items()})
        with pytest.raises(InvalidInputError, match=r"image features reach .* in magnitude; expected a largest"):
            build(paired_class).fit(views, **given)


@pytest.mark.usefixtures("double_by_default")
def test_the_default_dtype_is_the_users(paired_class, make_paired_sample):
    sample = make_paired_sample(rows=60)
    projection = build(paired_class).fit(sample.features, **sample.supervision(paired_class))
    for name in sample.features.names:
        assert bool(torch.isfinite(projection.view(name)(sample.features.of(name))).all())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_weights_stay_on_their_device(paired_class, paired_sample):
    given = paired_sample.supervision(paired_class)
    projection = build(paired_class).cuda().fit(paired_sample.features.to("cuda"), **given)
    assert {tensor.device.type for tensor in projection.state_dict().values()} == {"cuda"}


class Correlating(PairedProjection):
    """A paired projection that keeps the contract, for the broken ones below to break.

    Known weakness: it is an example.

    Shape:
        features (n, d of the view) → (n, k).

    Args:
        input_dims: d of each view.
        output_dim: k.

    References:
        None.
    """

    def __init__(self, input_dims, output_dim):
        super().__init__(input_dims, output_dim)
        self.views = nn.ModuleDict({name: self.make_view(size, output_dim) for name, size in input_dims.items()})

    make_view = LinearView

    def _fit(self, views, labels, affinity, generator):
        means = {name: rows.double().mean(0) for name, rows in views.items()}
        one, other = (rows.double() - means[name] for name, rows in views.items())
        left, _, right = torch.linalg.svd(one.T @ other, full_matrices=False)
        for name, directions in zip(views, (left, right.T), strict=True):
            self.view(name).set_weights(means[name], directions[:, : self.output_dim])


class LearnsNothing(Correlating):
    def _fit(self, views, labels, affinity, generator):
        pass


class LearnsOneView(Correlating):
    def _fit(self, views, labels, affinity, generator):
        state = {name: tensor.clone() for name, tensor in self.view("text").state_dict().items()}
        super()._fit(views, labels, affinity, generator)
        self.view("text").load_state_dict(state)


class GoesOnFromBefore(Correlating):
    def _fit(self, views, labels, affinity, generator):
        mean = self.view("image").mean.clone()
        super()._fit(views, labels, affinity, generator)
        self.view("image").mean.add_(mean)


class ChangesItsInput(Correlating):
    def _fit(self, views, labels, affinity, generator):
        super()._fit(views, labels, affinity, generator)
        views["text"].sub_(views["text"].mean(0))


class Constant(Correlating):
    def _fit(self, views, labels, affinity, generator):
        super()._fit(views, labels, affinity, generator)
        self.view("text").directions[:, 0] = 0


class ViewsApart(Correlating):
    """Directions of each view by themselves, as two hashers that know nothing of each other."""

    def _fit(self, views, labels, affinity, generator):
        for name, rows in views.items():
            centred = rows.double() - rows.double().mean(0)
            flips = torch.tensor([1.0, -1.0] * PROJECTIONS, dtype=torch.float64)[:PROJECTIONS]
            directions = (
                torch.linalg.svd(centred, full_matrices=False)[2].T[:, :PROJECTIONS].flip(1 if name == "text" else 0)
            )
            self.view(name).set_weights(rows.mean(0), directions * flips)


class LooksAtTheBatch(Correlating):
    class make_view(Projection):  # noqa: N801
        def __init__(self, input_dim, output_dim):
            super().__init__(input_dim, output_dim)
            self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

        def set_weights(self, mean, directions):
            self.directions.copy_(directions)

        def forward(self, features):
            return (features - features.mean(0)) @ self.directions

        def _fit(self, features, labels, affinity, generator):
            pass


class CutsTheGradient(LooksAtTheBatch):
    class make_view(LooksAtTheBatch.make_view):  # noqa: N801
        def forward(self, features):
            return (features - 0.1) @ self.directions.detach()


class HasAWrongGradient(LooksAtTheBatch):
    class make_view(LooksAtTheBatch.make_view):  # noqa: N801
        def forward(self, features):
            projections = (features - 0.1) @ self.directions
            return projections + (projections * 0.5).detach()


class TurnsSingleIntoDouble(LooksAtTheBatch):
    class make_view(LooksAtTheBatch.make_view):  # noqa: N801
        def forward(self, features):
            return features.double() @ self.directions.double()


class TakesTheFirstRow(Correlating):
    def _fit(self, views, labels, affinity, generator):
        super()._fit(views, labels, affinity, generator)
        for name, rows in views.items():
            self.view(name).mean.copy_(rows[0])


class DrawsFromGlobalState(Correlating):
    def _fit(self, views, labels, affinity, generator):
        super()._fit(views, labels, affinity, generator)
        self.view("text").offsets.copy_(torch.randn(self.output_dim))


class IgnoresTheSeed(Correlating):
    def _fit(self, views, labels, affinity, generator):
        super()._fit(views, labels, affinity, generator)
        torch.randn(1, generator=generator)


class FitsWhatIsMissing(Correlating):
    def fit(self, features, **given):
        return super().fit(Views(features.features), **given)


class HasOtherCodes(Correlating):
    def _fit(self, views, labels, affinity, generator):
        super()._fit(views, labels, affinity, generator)
        self.learnt_codes = torch.ones(len(views["image"]) - 1, self.output_dim)


class AcceptsAnything(Correlating):
    def fit(self, features, **given):
        return self


class Undocumented(Correlating):
    """Says little."""


BROKEN = {
    LearnsNothing: check_fit_depends_on_its_data_alone,
    LearnsOneView: check_fit_depends_on_its_data_alone,
    GoesOnFromBefore: check_fit_depends_on_its_data_alone,
    ChangesItsInput: check_fit_returns_self_and_leaves_its_input,
    Constant: check_projections_vary,
    ViewsApart: check_views_share_a_space,
    LooksAtTheBatch: check_row_order_and_blocks_do_not_matter,
    TakesTheFirstRow: check_row_order_and_blocks_do_not_matter,
    CutsTheGradient: check_gradients,
    HasAWrongGradient: check_gradients_are_right,
    DrawsFromGlobalState: check_global_randomness_is_left_alone,
    IgnoresTheSeed: check_seed_decides,
    FitsWhatIsMissing: check_incomplete_pairs_are_left_out,
    HasOtherCodes: check_learnt_codes,
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
def test_contract_refuses_what_breaks_it(broken, check, make_paired_sample):
    check(Correlating, *arguments_of(check, make_paired_sample))
    with pytest.raises((AssertionError, pytest.fail.Exception, GradcheckError)):
        check(broken, *arguments_of(check, make_paired_sample))
