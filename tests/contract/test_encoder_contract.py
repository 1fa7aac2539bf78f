"""What every encoder promises, and broken ones that the checks must refuse."""

import importlib
import inspect
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from deephash.encoders.base import Encoder
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError, check_count

# 16 × 16 pixels of 3 channels, and a grid of 16 × 16 blocks: what any encoder takes.
DIMENSION, ROWS = 768, 24
# Small sizes, for those that take them.
SIZES = {
    "anchors": 12,
    "blocks": 16,
    "channels": 3,
    "filters": 5,
    "frequencies": 10,
    "hidden": 20,
    "image_size": 32,
    "network": "mobilenet_v3_small",
    "orientations_per_scale": 3,
    "widths": 6,
}

# Names of networks, and random weights, for encoders that need them.
NETWORKS = {"Timm": {"network": "mobilenetv3_small_050", "weights": None}}


@pytest.fixture(scope="module", autouse=True)
def _model(tmp_path_factory):
    """A folder with a tiny model, where transformers is installed."""
    if find_spec("transformers") is None:
        return
    library, folder = importlib.import_module("transformers"), tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    library.ViTModel(library.ViTConfig(**sizes, image_size=32, patch_size=16)).save_pretrained(folder)
    library.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(folder)
    NETWORKS["Transformers"] = {"network": str(folder)}


@pytest.fixture
def features():
    """Items in [0, 1], as pixels are."""
    return torch.rand(ROWS, DIMENSION, generator=torch.Generator().manual_seed(0))


def build(encoder_class):
    taken = inspect.signature(encoder_class).parameters
    sizes = {name: size for name, size in SIZES.items() if name in taken}
    lists = {name: [size] for name, size in sizes.items() if isinstance(taken[name].default, tuple)}
    return encoder_class(DIMENSION, **sizes | lists | NETWORKS.get(encoder_class.__name__, {}))


def fitted(encoder_class, features, seed=0):
    encoder = build(encoder_class).to(features.dtype)
    return encoder.fit(features, torch.Generator().manual_seed(seed))


def check_shapes_and_dtypes(encoder_class, features):
    before = features.clone()
    for given in (features, features.double()):
        encoder = fitted(encoder_class, given)
        assert encoder.input_dim == DIMENSION
        for mode in (True, False):
            encoded = encoder.train(mode)(given)
            assert encoded.shape == (ROWS, encoder.output_dim)
            assert encoded.dtype == given.dtype
            assert bool(encoded.isfinite().all())
        for rows in (0, 1):
            assert encoder.eval()(given[:rows]).shape == (rows, encoder.output_dim)
    assert torch.equal(features, before)


def check_fit(encoder_class, features):
    encoder = build(encoder_class)
    allocated = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert encoder.fit(features, torch.Generator().manual_seed(0)) is encoder
    assert torch.equal(torch.get_rng_state(), state), "fit draws from the generator it is given, and no other"
    weights = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert {name: tensor.shape for name, tensor in weights.items()} == allocated
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            tensor.add_(1)
    torch.manual_seed(2)
    encoder.fit(features, torch.Generator().manual_seed(0))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, weights[name]), f"{name} depends on what was there before"
    assert encoder.training, "fit leaves the mode as it was"


def check_evaluation(encoder_class, features):
    encoder = fitted(encoder_class, features).eval()
    with torch.no_grad():
        encoded = encoder(features)
        assert torch.equal(encoder(features), encoded)
        alone = torch.cat([encoder(item[None]) for item in features])
        # The order of a sum may differ, no more.
        rounding = 1e-4 * float(encoded.abs().max())
        assert torch.allclose(alone, encoded, atol=rounding), "an item's features depend on those beside it"
    assert torch.allclose(encoder(features), encoded, atol=rounding), "gradients change the result"
    assert len(encoded.unique(dim=0)) == ROWS


def check_gradients(encoder_class, features):
    encoder = fitted(encoder_class, features)
    features = features.clone().requires_grad_()
    weights = torch.randn(encoder.output_dim, generator=torch.Generator().manual_seed(0))
    # What starts at zero keeps gradients from the layers before it in the first step alone.
    for _ in range(2):
        encoder.zero_grad()
        (encoder(features) * weights).sum().backward()
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter.data -= 1e-3 * parameter.grad
    for name, tensor in (("features", features), *encoder.named_parameters()):
        if tensor.requires_grad:
            assert tensor.grad is not None, f"no gradient reaches {name}"
            assert bool(tensor.grad.isfinite().all())
            assert bool(tensor.grad.abs().sum() > 0), f"the gradient of {name} is zero"


def check_storage(encoder_class, features, folder):
    for given in (features, features.double()):
        encoder = build(encoder_class)
        hasher = Hasher(ITQ(encoder.output_dim, 5), SBQ(5), encoder).to(given.dtype)
        hasher.fit(given, generator=torch.Generator().manual_seed(0))
        codes = hasher.encode(given)
        assert codes.shape == (ROWS, 1)
        hasher.save(folder)
        loaded = Hasher.load(folder)
        assert torch.equal(loaded.encode(given), codes)
        assert torch.equal(loaded.eval()(given), hasher.eval()(given))
        assert loaded.identity == hasher.identity
        learns = {name: parameter.requires_grad for name, parameter in hasher.named_parameters()}
        assert {name: parameter.requires_grad for name, parameter in loaded.named_parameters()} == learns


def check_device(encoder_class, features):
    """On torch's meta device, which holds no values but refuses to mix with the CPU, as a GPU does."""
    encoder = fitted(encoder_class, features).to("meta")
    for mode in (True, False):
        encoded = encoder.train(mode)(features.to("meta"))
        assert encoded.device.type == "meta"
        assert encoded.shape == (ROWS, encoder.output_dim)


def check_refusals(encoder_class):
    taken = inspect.signature(encoder_class).parameters
    sizes = {"network": "resnet18"} if "network" in taken else {}
    sizes |= NETWORKS.get(encoder_class.__name__, {})
    for bad in (0, -8, 1.5, True, "768", None):
        with pytest.raises(InvalidInputError, match=f"input_dim={bad!r}; expected a whole number"):
            encoder_class(bad, **sizes)


def check_docstring(encoder_class):
    for section in ("Shape:", "Args:", "Raises:"):
        assert f"{section}\n" in encoder_class.__doc__, section


def test_shapes_and_dtypes(encoder_class, features):
    check_shapes_and_dtypes(encoder_class, features)


def test_fit(encoder_class, features):
    check_fit(encoder_class, features)


def test_evaluation(encoder_class, features):
    check_evaluation(encoder_class, features)


def test_gradients(encoder_class, features):
    check_gradients(encoder_class, features)


def test_storage(encoder_class, features, tmp_path):
    check_storage(encoder_class, features, tmp_path)


def test_device(encoder_class, features):
    check_device(encoder_class, features)


def test_refusals(encoder_class):
    check_refusals(encoder_class)


def test_docstring(encoder_class):
    check_docstring(encoder_class)


class Dense(Encoder):
    """An encoder that keeps the contract, for the broken ones below to break."""

    def __init__(self, input_dim, width=9):
        check_count(input_dim, "input_dim")
        super().__init__(input_dim, width)
        self.width = width
        self.register_buffer("mean", torch.zeros(input_dim))
        self.weight = nn.Parameter(torch.zeros(input_dim, width))

    def forward(self, features):
        return (features.to(self.mean.dtype) - self.mean) @ self.weight

    @torch.no_grad()
    def fit(self, features, generator):
        self.mean.copy_(features.mean(0))
        self.weight.copy_(torch.randn(self.weight.shape, generator=generator))
        return self


class OtherDimension(Dense):
    def forward(self, features):
        return super().forward(features)[:, 1:]


class SinglePrecision(Dense):
    def forward(self, features):
        return super().forward(features).float()


class OtherGenerator(Dense):
    @torch.no_grad()
    def fit(self, features, generator):
        self.weight.copy_(torch.randn(self.weight.shape))
        return self


class AddsUp(Dense):
    @torch.no_grad()
    def fit(self, features, generator):
        self.weight.add_(torch.randn(self.weight.shape, generator=generator))
        return self


class DropsAlways(Dense):
    def forward(self, features):
        return nn.functional.dropout(super().forward(features), 0.5)


class BatchMean(Dense):
    def forward(self, features):
        return super().forward(features - features.mean(0))


class Detached(Dense):
    def forward(self, features):
        return (features - self.mean) @ self.weight.detach()


class Unused(Dense):
    def __init__(self, input_dim, width=9):
        super().__init__(input_dim, width)
        self.bias = nn.Parameter(torch.zeros(width))


class KeepsOutsideItsState(Dense):
    shift = 0

    def fit(self, features, generator):
        self.shift = 1
        return super().fit(features, generator)

    def forward(self, features):
        return super().forward(features + self.shift)


class OnTheCPU(Dense):
    def forward(self, features):
        return super().forward(features) + torch.ones(self.width)


class AnyDimension(Dense):
    def __init__(self, input_dim, width=9):
        super().__init__(DIMENSION, width)


BROKEN = [
    (OtherDimension, check_shapes_and_dtypes),
    (SinglePrecision, check_shapes_and_dtypes),
    (OtherGenerator, check_fit),
    (AddsUp, check_fit),
    (DropsAlways, check_evaluation),
    (BatchMean, check_evaluation),
    (Detached, check_gradients),
    (Unused, check_gradients),
    (KeepsOutsideItsState, check_storage),
    (OnTheCPU, check_device),
    (AnyDimension, check_refusals),
    (Dense, check_docstring),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN)
def test_contract_refuses_what_breaks_it(broken, check, features, tmp_path):
    given = {"features": features, "folder": tmp_path}
    given = {name: given[name] for name in list(inspect.signature(check).parameters)[1:]}
    if check is not check_docstring:
        check(Dense, **given)
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        check(broken, **given)
