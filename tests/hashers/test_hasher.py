"""Fitting, encoding and storing."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from deephash import Hasher
from deephash.codes import pack
from deephash.hashers import storage
from deephash.projections.base import Projection
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.projections.pcah import PCAH
from deephash.quantizers.relaxations.tanh import Tanh
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError


def features_of(n=300, d=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator) + 1


@pytest.fixture
def hasher():
    return Hasher(ITQ(32, 13, iterations=5), SBQ(13, Tanh(final_scale=20))).fit(features_of())


@pytest.fixture
def folder(hasher, tmp_path):
    hasher.save(tmp_path / "hasher")
    return tmp_path / "hasher"


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 9, 13, 31, 32])
@pytest.mark.parametrize("projection_class", [LSH, PCAH, ITQ])
def test_every_code_length(bits, projection_class):
    hasher = Hasher(projection_class(32, bits), SBQ(bits)).fit(features_of())
    codes = hasher.encode(features_of())
    assert codes.shape == (300, -(-bits // 8))
    assert torch.equal(codes, pack(hasher.project(features_of()) >= 0))
    assert hasher.distance.maximum == bits
    assert (hasher.bits, hasher.input_dim) == (bits, 32)


@pytest.mark.parametrize("bits", [100, 1023, 1024])
def test_long_codes(bits):
    codes = Hasher(LSH(32, bits), SBQ(bits)).fit(features_of()).encode(features_of())
    assert codes.shape == (300, -(-bits // 8))
    assert len(codes.unique(dim=0)) == 300


def test_mismatched_parts_are_refused():
    with pytest.raises(InvalidInputError, match="ITQ gives 8 projections, but SBQ of 12 bits needs 12; build the proj"):
        Hasher(ITQ(32, 8), SBQ(12))


def test_bad_features_are_refused(hasher):
    features = features_of()
    for use in (hasher.encode, hasher.project):
        with pytest.raises(InvalidInputError, match="features have 31 dimensions; expected 32"):
            use(features[:, 1:])
        with pytest.raises(InvalidInputError, match=r"features have shape \(32,\); expected two axes"):
            use(features[0])
        with pytest.raises(InvalidInputError, match=r"dtype torch\.complex64; expected real numbers"):
            use(features.to(torch.complex64))
        broken = features.clone()
        broken[250, 0] = float("nan")
        with pytest.raises(InvalidInputError, match="NaN or infinity in 1 of 300 rows, the first at row 250"):
            use(broken, block_size=100)
        for bad in (0, -1, 1.5):
            with pytest.raises(InvalidInputError, match=f"block_size={bad}; expected a whole number of at least 1"):
                use(features, block_size=bad)


def test_features_of_other_precisions_are_encoded(hasher):
    features = features_of()
    assert torch.equal(hasher.encode(features.double()), hasher.encode(features))
    assert hasher.encode(features.half()).shape == (300, 2)
    assert hasher.encode(features[:, torch.arange(32)].T.contiguous().T).shape == (300, 2)


def test_codes_do_not_depend_on_autocast_or_training_mode(hasher):
    features = features_of()
    codes = hasher.encode(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(hasher.encode(features), codes)
    assert torch.equal(hasher.eval().encode(features), codes)


def test_encoding_leaves_no_graph(hasher):
    assert not hasher.project(features_of().requires_grad_()).requires_grad
    assert hasher(features_of()).requires_grad


def test_same_seed_same_codes_other_seed_other_codes():
    def codes(seed):
        hasher = Hasher(ITQ(32, 16), SBQ(16))
        return hasher.fit(features_of(), generator=torch.Generator().manual_seed(seed)).encode(features_of())

    assert torch.equal(codes(1), codes(1))
    assert not torch.equal(codes(1), codes(2))


def test_joint_training_moves_what_is_encoded(hasher):
    features = features_of()
    before, identity = hasher.encode(features), hasher.identity
    optimiser = torch.optim.SGD(hasher.parameters(), lr=0.5)
    target = torch.where(torch.rand(300, 13, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0)
    losses = []
    for _ in range(20):
        loss = (hasher(features) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not torch.equal(hasher.encode(features), before)
    assert hasher.identity != identity


def test_loaded_hasher_is_the_same(hasher, folder):
    loaded = Hasher.load(str(folder))
    assert torch.equal(loaded.encode(features_of()), hasher.encode(features_of()))
    assert loaded.identity == hasher.identity == json.loads((folder / "hasher.json").read_text())["identity"]
    assert loaded.projection.iterations == 5
    assert loaded.quantizer.relaxation.final_scale == 20
    assert sorted(file.name for file in folder.iterdir()) == ["hasher.json", "weights.safetensors"]


def test_loaded_in_another_process(hasher, folder, tmp_path):
    torch.save(features_of(), tmp_path / "features.pt")
    script = (
        "import sys, torch; from deephash import Hasher; hasher = Hasher.load(sys.argv[1]);"
        "print(hasher.identity, hasher.encode(torch.load(sys.argv[2], weights_only=True)).long().sum().item())"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "features.pt")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [hasher.identity, str(int(hasher.encode(features_of()).long().sum()))]


def test_a_later_save_replaces_the_earlier(hasher, folder):
    hasher.fit(2 * features_of(), generator=torch.Generator().manual_seed(9))
    hasher.save(folder)
    assert Hasher.load(folder).identity == hasher.identity


def test_save_that_broke_off_between_its_files_is_whole(hasher, folder, monkeypatch):
    other = Hasher(LSH(32, 13), SBQ(13)).fit(features_of())
    replaced = []

    def stop_after_the_weights(self, target):
        if replaced:
            raise KeyboardInterrupt
        replaced.append(os.replace(self, target))

    monkeypatch.setattr("pathlib.Path.replace", stop_after_the_weights)
    with pytest.raises(KeyboardInterrupt):
        other.save(folder)
    monkeypatch.undo()
    assert json.loads((folder / "hasher.json").read_text())["identity"] == hasher.identity
    assert Hasher.load(folder).identity == other.identity
    # What the broken save left does not cover for a description that was changed since.
    rewrite(folder, bits=12)
    message = "does not match its identity .*; a file was changed, or a save was interrupted"
    with pytest.raises(InvalidInputError, match=message):
        Hasher.load(folder)


def rewrite(folder, **changes):
    file = folder / "hasher.json"
    stored = json.loads(file.read_text())
    stored.update(changes)
    file.write_text(json.dumps(stored))
    return stored


def sign_again(folder, **changes):
    """Change the description and its identity with it, as someone with bad intent would."""
    stored = rewrite(folder, **changes)
    description = {name: value for name, value in stored.items() if name not in ("format", "version", "identity")}
    rewrite(folder, identity=storage.identity(description, load_file(folder / "weights.safetensors")))


def test_missing_files_are_named(folder):
    with pytest.raises(InvalidInputError, match=r"nowhere does not exist; give the folder of a saved hasher"):
        Hasher.load(folder / "nowhere")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(InvalidInputError, match=r"weights.safetensors does not exist; give the folder of a saved"):
        Hasher.load(folder)
    (folder / "hasher.json").unlink()
    with pytest.raises(InvalidInputError, match=r"hasher.json does not exist; give the folder of a saved hasher"):
        Hasher.load(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused(folder, keep):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        InvalidInputError, match=r"weights.safetensors is not readable as weights \(.*\); restore it or fit again"
    ):
        Hasher.load(folder)


def test_a_flipped_bit_in_the_weights_is_noticed(folder):
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(InvalidInputError, match="does not match its identity"):
        Hasher.load(folder)


@pytest.mark.parametrize("content", ["", "{", "\x00\x01", '{"format": "deephash hasher", "version": '])
def test_damaged_json_is_refused(folder, content):
    (folder / "hasher.json").write_text(content)
    with pytest.raises(
        InvalidInputError,
        match=r"hasher.json is not readable as the description of a hasher \(.*\); restore it or fit again",
    ) as refusal:
        Hasher.load(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format": "something else"}'])
def test_foreign_json_is_refused(folder, content):
    (folder / "hasher.json").write_text(content)
    with pytest.raises(InvalidInputError, match=r"hasher.json does not describe a hasher; give the folder of one"):
        Hasher.load(folder)


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_other_versions_are_refused(folder, version):
    rewrite(folder, version=version)
    with pytest.raises(
        InvalidInputError, match=f"has format version {version!r}; this deephash reads 1 and 2: upgrade it"
    ):
        Hasher.load(folder)


def test_changed_settings_are_noticed(folder):
    rewrite(folder, sizes={"bits": 14})
    with pytest.raises(InvalidInputError, match="does not match its identity"):
        Hasher.load(folder)


@pytest.mark.parametrize(
    "path",
    ["deephash.projections.itq.Missing", "os.path.join", "subprocess.Popen", "torch.nn.Linear", "ITQ", "",
     "deephash.quantizers.sbq.SBQ", "deephash.projections.base.Tensor"],
)  # fmt: skip
def test_only_projections_are_built_as_projections(folder, path):
    sign_again(folder, projection={"class": path, "arguments": {"input_dim": 32, "output_dim": 13}})
    with pytest.raises(
        InvalidInputError, match="is not a known Projection; if it is your own class, import its module"
    ):
        Hasher.load(folder)


def test_no_module_outside_the_package_is_imported(folder, tmp_path, monkeypatch):
    (tmp_path / "intruder.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    sign_again(folder, projection={"class": "intruder.Payload", "arguments": {}})
    with pytest.raises(InvalidInputError, match=r"intruder.Payload is not a known Projection"):
        Hasher.load(folder)


def test_missing_module_of_the_package_is_named(folder):
    sign_again(folder, projection={"class": "deephash.projections.xyz.XYZ", "arguments": {}})
    with pytest.raises(
        InvalidInputError, match=r"projections.xyz.XYZ is not a known .* another version of deephash saved"
    ):
        Hasher.load(folder)


def test_a_hasher_is_saved_by_words(folder):
    """No path of a module stands in its file, so that modules can move."""
    text = (folder / "hasher.json").read_text()
    assert '"family": "projections"' in text
    assert '"name": "itq"' in text
    assert "deephash." not in text


@pytest.mark.parametrize(
    "part",
    [{"family": "projections", "name": "xyz"}, {"family": "losses", "name": "csq"}, {"family": "io", "name": "files"},
     {"family": "projections", "name": "base"}, {"family": "projections", "name": "../itq"}, {"family": 3, "name": []}],
)  # fmt: skip
def test_only_words_of_projections_are_built_as_projections(folder, part):
    sign_again(folder, projection={**part, "arguments": {"input_dim": 32, "output_dim": 13}})
    with pytest.raises(InvalidInputError, match="is not a known Projection"):
        Hasher.load(folder)


def test_unknown_arguments_are_refused(folder):
    arguments = {"input_dim": 32, "output_dim": 13, "speed": 9}
    sign_again(folder, projection={"class": "deephash.projections.itq.ITQ", "arguments": arguments})
    with pytest.raises(InvalidInputError, match=r"itq.ITQ does not accept .*'speed'"):
        Hasher.load(folder)


@pytest.mark.parametrize("projection", [None, 3, [], {}, {"class": "deephash.projections.itq.ITQ"}])
def test_half_a_description_is_refused(folder, projection):
    sign_again(folder, projection=projection)
    with pytest.raises(InvalidInputError, match="does not contain a complete hasher"):
        Hasher.load(folder)


def test_weights_of_another_shape_or_name_are_refused(hasher, folder):
    weights = load_file(folder / "weights.safetensors")
    for changed in ({**weights, "extra": torch.zeros(1)}, {**weights, "projection.mean": torch.zeros(5)}):
        save_file(changed, folder / "weights.safetensors")
        sign_again(folder)
        with pytest.raises(InvalidInputError, match="does not contain a complete hasher") as refusal:
            Hasher.load(folder)
        assert "\n" not in str(refusal.value)


class Scaled(Projection):
    """A user's own projection, defined outside the package."""

    def __init__(self, input_dim, output_dim, scale=2.0):
        super().__init__(input_dim, output_dim)
        self.scale = scale
        self.offsets = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features):
        return self.scale * features[:, : self.output_dim] - self.offsets

    def _fit(self, features, labels, affinity, generator):
        self.offsets.copy_(self.scale * features[:, : self.output_dim].mean(0))


def test_a_users_own_imported_class_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, Scaled.__module__, sys.modules.get(Scaled.__module__) or module_of(Scaled))
    hasher = Hasher(Scaled(32, 5, scale=3.0), SBQ(5)).fit(features_of())
    hasher.save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert type(loaded.projection) is Scaled
    assert loaded.projection.scale == 3.0
    assert torch.equal(loaded.encode(features_of()), hasher.encode(features_of()))


def module_of(found_class):
    """pytest may import this file without registering it; a user's module is registered."""
    import types

    module = types.ModuleType(found_class.__module__)
    setattr(module, found_class.__name__, found_class)
    return module


class ForgetsItsArgument(Scaled):
    def __init__(self, input_dim, output_dim, power=2):
        super().__init__(input_dim, output_dim)


def test_arguments_that_cannot_be_stored_are_refused(tmp_path):
    hasher = Hasher(ForgetsItsArgument(32, 5), SBQ(5)).fit(features_of())
    with pytest.raises(InvalidInputError, match=r"ForgetsItsArgument does not keep its argument power; set self.power"):
        hasher.save(tmp_path)
    hasher = Hasher(Scaled(32, 5, scale=torch.tensor(2.0)), SBQ(5)).fit(features_of())
    with pytest.raises(InvalidInputError, match=r"Scaled has scale=tensor\(2\.\), which is not JSON-serialisable"):
        hasher.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_codes_of_the_cpu(hasher):
    features = features_of()
    codes = hasher.encode(features)
    clear = (hasher.project(features).abs() > 1e-4).all(1)
    on_gpu = hasher.cuda()
    assert torch.equal(on_gpu.encode(features)[clear], codes[clear])
    assert on_gpu.encode(features.cuda()).is_cuda


def test_one_code_for_all_is_warned_of():
    """A quantiser that was fitted on what does not vary would find nothing by its codes."""
    with pytest.warns(UserWarning, match="LSH gives all 50 training items the same code, so every search would return"):
        Hasher(LSH(4, 3), SBQ(3)).fit(torch.ones(50, 4))
    Hasher(LSH(4, 3), SBQ(3)).fit(torch.ones(1, 4))


def test_queries_far_beyond_training_are_refused():
    """Their projections overflow, and bits of what is no number would say nothing."""
    features = features_of()
    hasher = Hasher(ITQ(32, 8), SBQ(8)).fit(features)
    far = features.double()
    far[250] *= 1e300
    for use in (hasher.encode, hasher.project):
        with pytest.raises(InvalidInputError, match=r"ITQ gives .* not finite for 1 rows, the first at row 250"):
            use(far, block_size=100)
