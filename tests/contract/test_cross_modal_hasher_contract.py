"""What a hasher of every paired projection promises, and one behind every quantiser."""

import pytest
import torch

from deephash.codes import pack
from deephash.data.views import Views
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.hasher_views import calibrate_margins, encode_views, relax_codes
from deephash.hashers.loading import load
from deephash.projections.paired.cvh import CVH
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError, NotFittedError

DIMENSIONS, BITS = {"image": 12, "text": 8}, 6


def both(make_quantizer):
    return {name: make_quantizer() for name in DIMENSIONS}


def hasher_of(paired_class, quantizer=lambda: SBQ(BITS)):
    quantizers = both(quantizer)
    return CrossModalHasher(paired_class(DIMENSIONS, quantizers["image"].projection_dim), quantizers)


def assert_keeps_its_promises(hasher, features, folder):
    codes = hasher.encode(features)
    for name, of_view in codes.items():
        view, rows = hasher.view(name), features.of(name)
        assert of_view.shape == (len(features), (hasher.bits + 7) // 8)
        assert of_view.unique(dim=0).shape[0] >= 4, "codes hardly differ"
        # A view is coded with nothing of the other, one item at a time or all.
        assert torch.equal(view.encode(rows), of_view)
        assert torch.equal(view.encode(rows[:1]), of_view[:1])
        assert view.encode(rows[:0]).shape == (0, of_view.shape[1])
        assert torch.equal(pack(view(rows) >= 0), of_view)
    hasher.save(folder)
    # No pickle: a description in JSON, and weights in safetensors.
    assert {path.name for path in folder.iterdir()} == {"hasher.json", "weights.safetensors"}
    loaded = load(folder)
    assert isinstance(loaded, CrossModalHasher)
    assert loaded.identity == hasher.identity
    assert loaded.describe() == hasher.describe()
    for name, of_view in loaded.encode(features).items():
        assert torch.equal(of_view, codes[name])
    assert loaded.state_dict().keys() == hasher.state_dict().keys()
    for name, tensor in hasher.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
        assert loaded.state_dict()[name].dtype == tensor.dtype, name
    assert {name: parameter.requires_grad for name, parameter in loaded.named_parameters()} == {
        name: parameter.requires_grad for name, parameter in hasher.named_parameters()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_hasher_of_every_paired_projection(paired_class, dtype, make_paired_sample, tmp_path):
    sample = make_paired_sample(dtype=dtype)
    hasher = hasher_of(paired_class).to(dtype)
    assert hasher.fit(sample.features, **sample.supervision(paired_class)) is hasher
    identity = hasher.identity
    assert_keeps_its_promises(hasher, sample.features, tmp_path / "hasher")
    with torch.no_grad():
        next(iter(hasher.view("text").projection.parameters())).reshape(-1)[0] += 1
    assert hasher.identity != identity


def test_an_item_that_lacks_a_view_has_no_code_there(paired_class, paired_sample):
    hasher = hasher_of(paired_class)
    hasher.fit(paired_sample.features, **paired_sample.supervision(paired_class))
    whole = hasher.encode(paired_sample.features)
    present = {"image": torch.arange(160) % 3 != 0, "text": torch.arange(160) % 3 != 1}
    codes = encode_views(hasher, Views(paired_sample.features.features, present))
    for name, (of_view, rows) in codes.items():
        assert rows.tolist() == present[name].nonzero()[:, 0].tolist()
        assert torch.equal(of_view, whole[name][rows])


def test_relaxed_codes_reach_every_weight(paired_class, paired_sample):
    hasher = hasher_of(paired_class)
    hasher.fit(paired_sample.features, **paired_sample.supervision(paired_class))
    calibrate_margins(hasher, paired_sample.features)
    ((codes, projections),) = relax_codes(hasher, [paired_sample.features])
    assert codes.shape == (320, BITS)
    weights = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    ((codes + 0.1 * projections) * weights).sum().backward()
    for name, parameter in hasher.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


def test_unfitted_hasher_is_refused(paired_class, paired_sample, tmp_path):
    hasher = hasher_of(paired_class)
    with pytest.raises(NotFittedError, match="is not fitted; call fit first, or load a saved hasher"):
        hasher.encode(paired_sample.features)
    with pytest.raises(NotFittedError, match="is not fitted"):
        hasher.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def fitted_cvh(make_paired_sample):
    """CVH of 6 directions, for quantisers of one, two or more bits a direction to follow."""
    sample = make_paired_sample()
    return sample, CVH(DIMENSIONS, BITS).fit(sample.features)


def test_every_quantizer_follows_a_paired_projection(quantizer_class, paired_sample, tmp_path):
    hasher = hasher_of(CVH, lambda: quantizer_class(BITS))
    hasher.fit(paired_sample.features, **paired_sample.supervision(quantizer_class))
    assert_keeps_its_promises(hasher, paired_sample.features, tmp_path / "hasher")


def test_several_bits_a_projection_follow_every_method(paired_class, paired_sample):
    """Multi-bit codes take thresholds of each view's own projections, whatever their scale."""
    hasher = hasher_of(paired_class, lambda: MHQ(BITS))
    hasher.fit(paired_sample.features, **paired_sample.supervision(paired_class))
    assert all(codes.unique(dim=0).shape[0] > 3 for codes in hasher.encode(paired_sample.features).values())


def test_one_view_loading_refuses_two_views(fitted_cvh, tmp_path):
    sample, projection = fitted_cvh
    hasher = CrossModalHasher(projection, both(lambda: SBQ(BITS)))
    for name, part in hasher.views.items():
        part.quantizer.fit(part.project(sample.features.of(name)))
    hasher.save(tmp_path)
    with pytest.raises(InvalidInputError, match=r"contains a hasher of two views; load it with deephash\.load"):
        Hasher.load(tmp_path)
    # One view of it is a hasher of its own.
    hasher.view("text").save(tmp_path / "text")
    text = load(tmp_path / "text")
    assert isinstance(text, Hasher)
    assert torch.equal(text.encode(sample.features.of("text")), hasher.encode(sample.features)["text"])
