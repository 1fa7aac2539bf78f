"""What a hasher of every projection, and of every quantiser, promises."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from deephash.codes import pack
from deephash.hashers.hasher import Hasher
from deephash.projections.lsh import LSH
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.sbq import SBQ
from deephash.validation import NotFittedError

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def hasher_with_projection(projection_class, sample):
    hasher = Hasher(projection_class(16, 11), SBQ(11, StraightThrough()))
    return hasher.fit(sample.features, **sample.supervision(projection_class))


@pytest.fixture
def hasher_with_quantizer(quantizer_class, sample):
    quantizer = quantizer_class(12)
    hasher = Hasher(LSH(16, quantizer.projection_dim), quantizer)
    return hasher.fit(sample.features, **sample.supervision(quantizer_class))


def assert_keeps_its_promises(hasher, features, folder):
    codes = hasher.encode(features)
    assert codes.shape == (len(features), (hasher.bits + 7) // 8)
    # A supervised method may give each of the four classes one code; no other may.
    least = 4 if hasher.projection.requires else 11
    assert codes.unique(dim=0).shape[0] >= least, "codes hardly differ"
    assert torch.equal(codes, pack(hasher(features) >= 0))
    assert hasher.encode(features[:0]).shape == (0, codes.shape[1])
    assert torch.equal(hasher.encode(features[:1]), codes[:1])
    clear = (hasher.project(features).abs() > 1e-5).all(1)
    for block_size in (1, 7, 10_000):
        assert torch.equal(hasher.encode(features, block_size)[clear], codes[clear])
    hasher.save(folder)
    loaded = Hasher.load(folder)
    assert torch.equal(loaded.encode(features), codes)
    assert torch.equal(loaded(features), hasher(features))
    assert loaded.identity == hasher.identity
    for name, tensor in hasher.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
        assert loaded.state_dict()[name].dtype == tensor.dtype
    assert {name: parameter.requires_grad for name, parameter in loaded.named_parameters()} == {
        name: parameter.requires_grad for name, parameter in hasher.named_parameters()
    }


def test_hasher_of_every_projection(hasher_with_projection, sample, tmp_path):
    assert_keeps_its_promises(hasher_with_projection, sample.features, tmp_path / "hasher")


def test_hasher_of_every_quantizer(hasher_with_quantizer, sample, tmp_path):
    assert_keeps_its_promises(hasher_with_quantizer, sample.features, tmp_path / "hasher")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "quantizer").glob("*.yaml")))
def test_hasher_of_every_quantizer_config(name, sample, tmp_path, compose_config):
    """Several YAMLs may share a class and differ in its parts, which are stored with it."""
    quantizer = instantiate(compose_config(f"quantizer={name}").quantizer, bits=12)
    hasher = Hasher(LSH(16, quantizer.projection_dim), quantizer)
    hasher.fit(sample.features, **sample.supervision(type(quantizer)))
    hasher.save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert loaded.describe() == hasher.describe()
    assert torch.equal(loaded.encode(sample.features), hasher.encode(sample.features))


def test_double_precision_is_stored_bit_for_bit(projection_class, make_sample, tmp_path):
    sample = make_sample(dtype=torch.float64)
    hasher = Hasher(projection_class(16, 11), SBQ(11)).double()
    hasher.fit(sample.features, **sample.supervision(projection_class))
    assert_keeps_its_promises(hasher, sample.features, tmp_path / "hasher")


def test_unfitted_hasher_is_refused(projection_class, sample, tmp_path):
    hasher = Hasher(projection_class(16, 11), SBQ(11))
    for use in (hasher.encode, hasher.project):
        with pytest.raises(NotFittedError, match=r"is not fitted; call fit first, or load a saved hasher"):
            use(sample.features)
    with pytest.raises(NotFittedError, match="is not fitted"):
        hasher.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
