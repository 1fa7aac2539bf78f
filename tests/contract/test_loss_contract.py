"""What every loss promises, and broken ones that the checks must refuse."""

import copy
import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from deephash.data.views import Views
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.losses.classification import Classification
from deephash.losses.nested import Nested
from deephash.quantizers.sbq import SBQ

CONF = Path(__file__).resolve().parents[2] / "conf" / "loss"
LENGTH, CLASSES, FEATURES, ITEMS = 8, 4, 5, 12
PREFIXES = [3, LENGTH]
LEARNT = ("codes", "projections", "second_codes")
SUPERVISION = {"labels", "single_labels", "neighbours", "second_codes", "one_view", "two_views", "pairs"}


def build(loss_class, seed=0, length=LENGTH):
    """A loss as training builds it, with its class's own defaults; a part without a default is its YAML's."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"code_length": length, "projections": length, "classes": CLASSES, "input_dim": FEATURES}
    sizes |= {"items": ITEMS, "generator": generator}
    given = {}
    if loss_class is Nested:
        return Nested(LENGTH, lambda bits: Classification(bits, CLASSES, generator), prefixes=PREFIXES)
    for name, parameter in inspect.signature(loss_class).parameters.items():
        if name in sizes:
            given[name] = sizes[name]
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty:
            config = OmegaConf.load(CONF / f"{loss_class.__module__.rpartition('.')[2]}.yaml")
            given[name] = instantiate(config[name])
    return loss_class(**given)


def batch_for(loss, items=ITEMS, dtype=torch.float64, seed=0, several_labels=False, labels=None):
    """Random codes well within [-1, 1], and of what else may be known only what a loss says it reads."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return (1.8 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.9).to(dtype)

    if labels is None:
        labels = torch.arange(items) % CLASSES
        if several_labels:
            labels = torch.rand(items, CLASSES, generator=generator) < 0.4
            labels[0] = False  # An item may have no label.
    indicator = labels if labels.ndim == 2 else nn.functional.one_hot(labels, CLASSES).bool()
    neighbours = (indicator.float() @ indicator.float().T > 0) | torch.eye(items, dtype=torch.bool)
    codes, second = uniform(items, LENGTH), uniform(items, LENGTH)
    projections, features = 2 * uniform(items, LENGTH), uniform(items, FEATURES)
    quantizer = SBQ(LENGTH).fit(projections.float()).to(dtype)
    requires = loss.requires
    rows = views = None
    if "two_views" in requires:
        rows, views, features = in_two_views(items, uniform)
        labels, neighbours = labels[rows], neighbours[rows][:, rows]
    return TrainingBatch(
        codes.requires_grad_(),
        projections.requires_grad_(),
        features,
        torch.arange(items),
        labels if requires & {"labels", "single_labels"} else None,
        neighbours if "neighbours" in requires else None,
        second.requires_grad_() if "second_codes" in requires else None,
        quantizer,
        rows,
        views,
    )


def in_two_views(codes, uniform):
    """Rows and views of codes, two an item; of an odd number the last item lacks its text."""
    numbers = torch.arange(codes)
    items = (codes + 1) // 2
    features = {"image": uniform(items, FEATURES).abs(), "text": uniform(items, FEATURES - 1).abs()}
    present = {"image": torch.ones(items, dtype=torch.bool), "text": torch.arange(items) < codes // 2}
    return numbers // 2, numbers % 2, Views(features, present)


def learnt(batch):
    """What gradients can reach, by name."""
    found = {name: getattr(batch, name) for name in LEARNT}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def value_and_gradients(loss, batch):
    """The loss, and its gradients with respect to what it can move; a loss may count its calls, so a copy is called."""
    inputs = learnt(batch)
    value = copy.deepcopy(loss)(batch)
    assert value.requires_grad, "no gradient passes"
    gradients = torch.autograd.grad(value, list(inputs.values()), allow_unused=True)
    return value.detach(), {name: g for name, g in zip(inputs, gradients, strict=True) if g is not None}


def check_scalar_of_the_codes_type(loss_class):
    for dtype in (torch.float32, torch.float64):
        loss = build(loss_class).to(dtype)
        batch = batch_for(loss, dtype=dtype)
        before = {name: tensor.detach().clone() for name, tensor in learnt(batch).items()}
        value, gradients = value_and_gradients(loss, batch)
        assert value.shape == ()
        assert value.dtype == dtype
        assert bool(value.isfinite())
        for name, tensor in learnt(batch).items():
            assert torch.equal(tensor, before[name]), f"it changed {name}"
        assert sum(float(gradient.abs().sum()) for gradient in gradients.values()) > 0, "nothing to learn from"


class Constants:
    """What a loss detaches, kept from its first call, so that it stays constant while the codes move."""

    def __init__(self):
        self.kept, self.calls, self.detach = [], 0, torch.Tensor.detach

    def replay(self, tensor):
        if self.calls == len(self.kept):
            self.kept.append(self.detach(tensor).clone())
        self.calls += 1
        return self.kept[self.calls - 1]


def check_gradient(loss_class):
    loss = build(loss_class).double()
    batch = batch_for(loss, items=7)
    inputs = learnt(batch)

    def value(*tensors):
        return copy.deepcopy(loss)(replace(batch, **dict(zip(inputs, tensors, strict=True))))

    def value_for_constants(*tensors):
        constants.calls = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "detach", lambda tensor: constants.replay(tensor))
            return value(*tensors)

    constants = Constants()
    checked = value_for_constants if loss.stops_gradients else value
    assert torch.autograd.gradcheck(checked, tuple(inputs.values()), nondet_tol=1e-10)
    if loss.stops_gradients:
        assert not torch.autograd.gradcheck(value, tuple(inputs.values()), raise_exception=False), "nothing is stopped"


def check_degenerate_batches(loss_class):
    loss = build(loss_class).double()
    for items, labels in ((1, None), (2, torch.tensor([1, 1])), (2, torch.tensor([0, 1])), (5, torch.full((5,), 2))):
        batch = batch_for(loss, items=items, labels=labels)
        corner, middle = torch.ones(items, LENGTH), torch.zeros(items, LENGTH)
        batches = [batch]
        for codes in (corner, middle):
            # All items at one place, as when a code has collapsed.
            same = {name: codes.double().requires_grad_() for name in learnt(batch)}
            batches.append(replace(batch, **same))
        for each in batches:
            value, gradients = value_and_gradients(loss, each)
            assert bool(value.isfinite()), f"{value} of {items} items of classes {labels}"
            for name, gradient in gradients.items():
                assert bool(gradient.isfinite().all()), f"the gradient of {name} of {items} items of classes {labels}"


def check_several_labels(loss_class):
    loss = build(loss_class).double()
    if "single_labels" in loss.requires:
        return
    value, gradients = value_and_gradients(loss, batch_for(loss, several_labels=True))
    assert bool(value.isfinite())
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


def check_order_does_not_matter(loss_class):
    loss = build(loss_class).double()
    batch = batch_for(loss)
    value, gradients = value_and_gradients(loss, batch)
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(3))
    names = ("codes", "projections", "features", "positions", "labels", "second_codes", "rows", "views")
    rows = {name: getattr(batch, name) for name in names}
    if batch.views is not None:
        del rows["features"]  # Of items, which codes find by their rows.
    shuffled = {name: tensor.detach()[order] for name, tensor in rows.items() if tensor is not None}
    for name in learnt(batch):
        shuffled[name].requires_grad_()
    if batch.neighbours is not None:
        shuffled["neighbours"] = batch.neighbours[order][:, order]
    other_value, other_gradients = value_and_gradients(loss, replace(batch, **shuffled))
    assert torch.allclose(other_value, value, rtol=1e-9)
    for name, gradient in gradients.items():
        assert torch.allclose(other_gradients[name], gradient[order], rtol=1e-7, atol=1e-12), name


def check_an_item_is_no_neighbour_of_itself(loss_class):
    loss = build(loss_class).double()
    batch = batch_for(loss)
    if batch.neighbours is None:
        return
    without = replace(batch, neighbours=batch.neighbours & ~torch.eye(ITEMS, dtype=torch.bool))
    assert torch.equal(value_and_gradients(loss, batch)[0], value_and_gradients(loss, without)[0])


def check_steps_lower_it(loss_class):
    loss = build(loss_class).double()
    batch = batch_for(loss)
    inputs = learnt(batch)
    before = float(value_and_gradients(loss, batch)[0])
    optimizer = torch.optim.SGD([*inputs.values(), *loss.parameters()], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        loss(batch).backward()
        # Steps of one length: losses differ in scale.
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.02)
        optimizer.step()
        with torch.no_grad():
            for tensor in inputs.values():
                tensor.clamp_(-1, 1)
    assert float(value_and_gradients(loss, batch)[0]) < before


def check_own_weights_are_there_from_the_start(loss_class):
    torch.manual_seed(1)
    first = build(loss_class, seed=5)
    torch.manual_seed(2)
    second = build(loss_class, seed=5)
    weights = first.state_dict()
    assert weights.keys() == second.state_dict().keys()
    for name, weight in second.state_dict().items():
        assert torch.equal(weight, weights[name]), f"{name} does not follow from the generator"
    parameters = {id(parameter) for parameter in first.parameters()}
    first(batch_for(first, dtype=torch.float32)).backward()
    assert {id(parameter) for parameter in first.parameters()} == parameters, "the optimiser has not seen all weights"
    for name, parameter in first.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
    second.load_state_dict(first.state_dict())


def first_bits(batch, bits):
    """A batch whose codes have only the first bits, with a quantiser of as many thresholds."""
    quantizer = SBQ(bits).double()
    quantizer.thresholds = nn.Parameter(batch.quantizer.thresholds[:bits].detach())
    quantizer.unit = batch.quantizer.unit[:bits]
    cut = {name: tensor.detach()[:, :bits].requires_grad_() for name, tensor in learnt(batch).items()}
    return replace(batch, **cut, quantizer=quantizer)


def check_it_can_be_nested(loss_class):
    """Nested, it is the sum of its values on cut codes; with the whole code as the only prefix, it is itself."""
    if loss_class is Nested:
        return
    weights = [0.5, 2.0]
    nested = Nested(LENGTH, lambda bits: build(loss_class, length=bits), PREFIXES, weights).double()
    assert nested.requires == loss_class.requires
    batch = batch_for(nested)
    batch.quantizer.calibrate(batch.projections)
    with torch.no_grad():
        batch.quantizer.thresholds.copy_(torch.linspace(-0.3, 0.3, LENGTH))
    value, gradients = value_and_gradients(nested, batch)
    expected, sums = 0.0, {name: torch.zeros_like(tensor) for name, tensor in learnt(batch).items()}
    for bits, weight, loss in zip(PREFIXES, weights, nested.losses, strict=True):
        assert {name: weights.shape for name, weights in loss.state_dict().items()} == {
            name: weights.shape for name, weights in build(loss_class, length=bits).state_dict().items()
        }
        part, part_gradients = value_and_gradients(loss, first_bits(batch, bits))
        expected = expected + weight * part
        for name, gradient in part_gradients.items():
            sums[name][:, :bits] += weight * gradient
    assert torch.allclose(value, expected, rtol=1e-12)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, sums[name], rtol=1e-9, atol=1e-14), name
    alone = Nested(LENGTH, lambda bits: build(loss_class, length=bits), [LENGTH]).double()
    value, gradients = value_and_gradients(alone, batch)
    own_value, own_gradients = value_and_gradients(build(loss_class).double(), batch)
    assert torch.equal(value, own_value)
    assert gradients.keys() == own_gradients.keys()
    assert all(torch.equal(gradient, own_gradients[name]) for name, gradient in gradients.items())


def check_its_targets_are_shared_by_prefixes(loss_class):
    loss = build(loss_class)
    constant = {name for name, buffer in loss.named_buffers() if LENGTH in buffer.shape and bool((buffer != 0).all())}
    assert set(loss.targets) == (set() if loss_class is Nested else constant), "targets are all fixed target bits"
    if not loss.targets:
        return
    nested = Nested(LENGTH, lambda bits: build(loss_class, length=bits), PREFIXES)
    for name in loss.targets:
        shorter, longer = (getattr(each, name) for each in nested.losses)
        assert torch.equal(longer[..., : PREFIXES[0]].sign(), shorter.sign()), name
        assert torch.equal(longer[..., PREFIXES[0] :], getattr(loss, name)[..., PREFIXES[0] :]), name
        assert torch.equal(longer.abs(), getattr(loss, name).abs()), name


def check_what_it_requires_has_a_name(loss_class):
    assert isinstance(loss_class.requires, frozenset)
    assert loss_class.requires <= SUPERVISION


def check_docstring(loss_class):
    for section in ("Known weakness: ", "Shape:\n", "References:\n"):
        assert section in loss_class.__doc__, section
    if "__init__" in vars(loss_class) and inspect.signature(loss_class).parameters:
        assert "Args:\n" in loss_class.__doc__


CHECKS = [
    check_scalar_of_the_codes_type,
    check_gradient,
    check_degenerate_batches,
    check_several_labels,
    check_order_does_not_matter,
    check_an_item_is_no_neighbour_of_itself,
    check_steps_lower_it,
    check_own_weights_are_there_from_the_start,
    check_it_can_be_nested,
    check_its_targets_are_shared_by_prefixes,
    check_what_it_requires_has_a_name,
    check_docstring,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_contract(check, loss_class):
    check(loss_class)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_gives_the_same(loss_class):
    loss = build(loss_class).double()
    batch = batch_for(loss)
    value, gradients = value_and_gradients(loss, batch)
    moved = {
        name: tensor.detach().cuda().requires_grad_(tensor.requires_grad)
        for name, tensor in vars(batch).items()
        if isinstance(tensor, torch.Tensor)
    }
    if isinstance(batch.features, Views):
        moved["features"] = batch.features.to("cuda")
    on_gpu = replace(batch, **moved, quantizer=copy.deepcopy(batch.quantizer).cuda())
    gpu_value, gpu_gradients = value_and_gradients(loss.cuda(), on_gpu)
    assert torch.allclose(gpu_value.cpu(), value)
    for name, gradient in gradients.items():
        assert torch.allclose(gpu_gradients[name].cpu(), gradient, atol=1e-10), name


class PairLoss(Loss):
    """Sound, but for its docstring: squared distances of neighbours."""

    requires = frozenset({"neighbours"})

    def forward(self, batch):
        others = ~torch.eye(len(batch), dtype=torch.bool, device=batch.codes.device)
        pairs = batch.neighbours & others
        products = batch.codes @ batch.codes.T / LENGTH
        return ((1 - products).square() * pairs).sum() / pairs.sum().clamp_min(1)


SOUND = [check for check in CHECKS if check is not check_docstring]


@pytest.mark.parametrize("check", SOUND, ids=lambda check: check.__name__[6:])
def test_contract_takes_what_keeps_it(check):
    check(PairLoss)


class OneAnItem(Loss):
    """No scalar."""

    def forward(self, batch):
        return batch.codes.square().sum(1)


class SinglePrecision(Loss):
    """float32 whatever it is given."""

    def forward(self, batch):
        return batch.codes.float().square().mean()


class Constant(Loss):
    """A gradient of zero."""

    def forward(self, batch):
        return 0 * batch.codes.sum()


class Detached(Loss):
    """No gradient at all."""

    def forward(self, batch):
        return batch.codes.detach().square().mean()


class InPlace(Loss):
    """Changes its batch."""

    def forward(self, batch):
        batch.codes.data.mul_(0.5)
        return batch.codes.square().mean()


class WrongGradient(Loss):
    """Half the gradient of its value."""

    def forward(self, batch):
        value = batch.codes.square().mean()
        return 0.5 * value + 0.5 * value.detach()


class Uphill(Loss):
    """The gradient of its negative."""

    def forward(self, batch):
        value = batch.codes.square().mean()
        return 2 * value.detach() - value


class MeanOfPairs(Loss):
    """0/0 where there is no pair."""

    requires = frozenset({"neighbours"})

    def forward(self, batch):
        others = ~torch.eye(len(batch), dtype=torch.bool)
        return (batch.codes @ batch.codes.T)[others].square().mean()


class RootOfZero(Loss):
    """An infinite slope where two codes are equal."""

    def forward(self, batch):
        between = batch.codes[:, None] - batch.codes
        return -between.square().sum(2).sqrt().mean()


class FirstIsAnchor(Loss):
    """Of two orders of one batch it makes two losses."""

    def forward(self, batch):
        return (batch.codes @ batch.codes[0]).square().mean()


class WithItself(PairLoss):
    """Counts each item as its own neighbour."""

    def forward(self, batch):
        return ((batch.codes @ batch.codes.T).square() * batch.neighbours).mean()


class Undeclared(Loss):
    """Reads labels without saying so."""

    def forward(self, batch):
        return (batch.codes.sum(1) - batch.labels).square().mean()


class OneClassAnItem(Loss):
    """Takes class indices, and says that it takes indicators."""

    requires = frozenset({"labels"})

    def forward(self, batch):
        return nn.functional.cross_entropy(batch.codes[:, :CLASSES], batch.labels)


class Unseeded(Loss):
    """Weights from torch's default generator."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.randn(LENGTH))

    def forward(self, batch):
        return (batch.codes - self.centre).square().mean()


class LateWeights(Loss):
    """Weights that appear with the first batch."""

    def forward(self, batch):
        if not hasattr(self, "centre"):
            self.centre = nn.Parameter(torch.zeros(LENGTH))
        return (batch.codes - self.centre).square().mean()


class DeadWeights(Loss):
    """Weights that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(LENGTH))

    def forward(self, batch):
        return batch.codes.square().mean()


class OneLength(Loss):
    """Reads codes of one length only."""

    def forward(self, batch):
        return (batch.codes - torch.linspace(0.1, 0.9, LENGTH).to(batch.codes)).square().mean()


class UnnamedTargets(Loss):
    """Fixed target bits that it does not name."""

    def __init__(self, code_length):
        super().__init__()
        self.register_buffer("centre", torch.ones(code_length))

    def forward(self, batch):
        return (batch.codes - self.centre).square().mean()


class Misnamed(Loss):
    """Requires what no batch has."""

    requires = frozenset({"neighbors"})

    def forward(self, batch):
        return batch.codes.square().mean()


BROKEN = [
    (OneAnItem, check_scalar_of_the_codes_type),
    (SinglePrecision, check_scalar_of_the_codes_type),
    (Constant, check_scalar_of_the_codes_type),
    (Detached, check_scalar_of_the_codes_type),
    (InPlace, check_scalar_of_the_codes_type),
    (Undeclared, check_scalar_of_the_codes_type),
    (WrongGradient, check_gradient),
    (Uphill, check_steps_lower_it),
    (MeanOfPairs, check_degenerate_batches),
    (RootOfZero, check_degenerate_batches),
    (OneClassAnItem, check_several_labels),
    (FirstIsAnchor, check_order_does_not_matter),
    (WithItself, check_an_item_is_no_neighbour_of_itself),
    (Constant, check_steps_lower_it),
    (Unseeded, check_own_weights_are_there_from_the_start),
    (LateWeights, check_own_weights_are_there_from_the_start),
    (DeadWeights, check_own_weights_are_there_from_the_start),
    (OneLength, check_it_can_be_nested),
    (UnnamedTargets, check_its_targets_are_shared_by_prefixes),
    (Misnamed, check_what_it_requires_has_a_name),
    (Constant, check_docstring),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN)
def test_contract_refuses_what_breaks_it(broken, check):
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        check(broken)
