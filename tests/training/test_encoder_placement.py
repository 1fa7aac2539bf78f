"""Runs with pretrained encoders, from a folder of photographs to codes of other photographs."""

import importlib

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf, open_dict
from PIL import Image

from deephash.code_files.open_source import open_source
from deephash.command_line.programs.train import train
from deephash.hashers.loading import load
from deephash.training.encoder_placement import check_head, get_hasher_encoder, is_described, place_encoder
from deephash.training.evaluate_run import evaluate
from deephash.training.joint_module import JointModule
from deephash.training.relative_rates import parameter_groups
from deephash.validation import InvalidInputError

pytestmark = pytest.mark.needs("timm")

NETWORK = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Bright and dark photographs in two folders, and a network with random weights in a file."""
    timm = importlib.import_module("timm")
    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(low, low + 128, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model(NETWORK).state_dict(), folder / "weights.pt")
    return folder


@pytest.fixture
def compose(compose_config, photographs):
    def with_encoder(*overrides):
        return compose_config(
            *("data=image_folder", f"data.path={photographs / 'images'}", f"data.cache={photographs / 'cache'}"),
            *("encoder=timm", f"encoder.network={NETWORK}", f"encoder.weights={photographs / 'weights.pt'}"),
            *("encoder.image_size=32", "protocol.queries=6", "bits=8", "metrics.at=[5]", "user_metric=[]"),
            *("figures=false", "logger=none", *overrides),
        )

    return with_encoder


@pytest.mark.parametrize("method", ["itq", "csq"])
def test_a_frozen_encoder_describes_the_images(method, compose, photographs, tmp_path, compose_config):
    result = train(compose(f"method={method}", *(["train.epochs=2"] if method == "csq" else [])), tmp_path / "run")
    assert result.row["feature_dim"] == 1024
    assert result.row["encoder"] == "timm"
    hasher = load(tmp_path / "run")
    assert hasher.input_dim == 1024
    assert type(hasher.encoder).__name__ == {"itq": "Identity", "csq": "FeatureHead"}[method]
    source = open_source(photographs / "images", tmp_path / "run")
    (block,) = source.blocks(0, 24)
    assert block.features.shape == (24, 1024)
    stored = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert stored.data.descriptor.encoder.network == NETWORK
    again, row = evaluate(
        compose_config(f"run={tmp_path / 'run'}", "figures=false", config_name="evaluate"), tmp_path / "again"
    )
    assert row["metrics"] == again.row["metrics"]


@pytest.mark.parametrize("method", ["itq", "csq"])
def test_a_published_hasher_contains_its_network(method, compose, photographs, tmp_path):
    """The head of a deep method follows its network."""
    from deephash.code_files.run_descriptors import join_network

    train(compose(f"method={method}", *(["train.epochs=2"] if method == "csq" else [])), tmp_path / "run")
    (block,) = open_source(photographs / "images", tmp_path / "run").blocks(0, 24)
    expected = load(tmp_path / "run").encode(block.features)
    join_network(tmp_path / "run").save_pretrained(tmp_path / "published", license="mit")
    moved = (photographs / "weights.pt").rename(tmp_path / "moved.pt")
    try:
        published = load(tmp_path / "published")
        (pixels,) = open_source(photographs / "images", tmp_path / "published").blocks(0, 24)
        codes = published.encode(pixels.features)
    finally:
        moved.rename(photographs / "weights.pt")
    assert published.input_dim == 3 * 36 * 36
    assert (published.encoder.head is None) == (method == "itq")
    card = (tmp_path / "published" / "README.md").read_text()
    assert "It maps images of 36 × 36 pixels to binary codes of 8 bits" in card
    assert ("| head | FeatureHead |" in card) == (method == "csq")
    assert f"| encoder | Timm {NETWORK} |" in card
    assert 'pip install "deephash[hub,pretrained]"' in card
    assert float((codes != expected).float().mean()) < 0.05  # rounding


def test_one_that_learns_is_a_part_of_the_hasher(compose, photographs, tmp_path):
    config = compose(
        "method=csq",
        "train.epochs=3",
        "train.select_by=null",
        "encoder.frozen=false",
        "encoder.unfreeze_from=conv_head",
    )
    train(config, tmp_path / "run")
    start, learnt = load(tmp_path / "run" / "start"), load(tmp_path / "run")
    assert learnt.input_dim == 3 * 36 * 36  # the side before the crop
    differing = {
        name
        for name, weight in learnt.encoder.state_dict().items()
        if not torch.equal(weight, start.encoder.state_dict()[name])
    }
    assert differing == {"backbone.conv_head.weight", "backbone.conv_head.bias"}
    source = open_source(photographs / "images", tmp_path / "run")
    (block,) = source.blocks(0, 24)
    assert learnt.encode(block.features).shape == (24, 1)


def test_the_network_learns_at_a_tenth_of_the_rate():
    from deephash.encoders.timm import Timm

    encoder = Timm(768, NETWORK, None, frozen=False, image_size=32)
    other = torch.nn.Linear(2, 2)
    groups = parameter_groups({"encoder": torch.nn.ModuleDict({"a": encoder, "b": other})}, {"encoder": 0.5}, {})
    rates = {id(group["params"][0]): group["rate"] for group in groups}
    assert {rates[id(weight)] for weight in encoder.parameters()} == {0.05}
    assert {rates[id(weight)] for weight in other.parameters()} == {0.5}


class Killed(BaseException):
    """What no handler of errors catches."""


@pytest.mark.parametrize("frozen", [True, False])
def test_a_killed_training_resumes_to_the_same_weights(frozen, compose, tmp_path, monkeypatch):
    settings = [] if frozen else ["encoder.frozen=false", "encoder.unfreeze_from=blocks.5"]
    config = compose("method=csq", "train.epochs=4", "train.validate_every=1", "train.select_by=null", *settings)
    train(config, tmp_path / "whole")
    step, epochs = JointModule.training_step, []

    def step_or_die(self, batch, batch_idx):
        epochs.append(self.current_epoch)
        if epochs == [0, 1, 2]:
            raise Killed
        return step(self, batch, batch_idx)

    monkeypatch.setattr(JointModule, "training_step", step_or_die)
    with pytest.raises(Killed):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run")
    assert epochs == [0, 1, 2, 2, 3]
    whole, resumed = load(tmp_path / "whole").state_dict(), load(tmp_path / "run").state_dict()
    start = load(tmp_path / "run" / "start").state_dict()
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert any(not torch.equal(weight, whole[name]) for name, weight in start.items())


def test_augmented_images_are_encoded_in_each_step(compose, tmp_path):
    config = compose("method=csq", "train.epochs=3", "train.select_by=null", "augmentation=crop_and_flip")
    train(config, tmp_path / "run")
    start, learnt = load(tmp_path / "run" / "start"), load(tmp_path / "run")
    assert learnt.input_dim == 3 * 36 * 36
    for name, weight in learnt.encoder.state_dict().items():
        assert torch.equal(weight, start.encoder.state_dict()[name]), name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=cifar10_gist"], "encoder=timm takes pixels, and data=cifar10_gist gives Gist features"),
        (["encoder.network=resnet181"], "network='resnet181' is not a network of timm; did you mean .*resnet18"),
        (["encoder.weights=missing.pt"], "missing.pt' does not exist"),
    ],
)
def test_errors_come_before_any_image_is_read(overrides, message, compose_config, tmp_path):
    given = [f"encoder.network={NETWORK}", "encoder.weights=null", "data=image_folder", "data.path=missing"]
    with pytest.raises(InvalidInputError, match=message):
        train(compose_config("encoder=timm", *given, *overrides), tmp_path / "run")


def test_only_changes_of_images_need_images(compose, photographs):
    for method in ("dhd", "cibhash", "csq"):
        placed = place_encoder(compose(f"method={method}"))
        assert is_described(placed), method
        assert get_hasher_encoder(placed)._target_.endswith("FeatureHead")
    images = "{_target_: deephash.augmentations.CropAndFlip, _partial_: true}"
    for overrides in (["method=csq", "augmentation=crop_and_flip"], ["method=dhd", f"augmentation.strong={images}"]):
        placed = place_encoder(compose(*overrides))
        assert not is_described(placed)
        assert placed.data.descriptor._target_.endswith("Pixels")


def test_networks_of_torchvision_follow_the_same_rules(compose_config, tmp_path):
    from deephash.encoders.torchvision_source import TorchvisionSource

    network, _ = TorchvisionSource("mobilenet_v3_small", None).build_seeded(0)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    chosen = ["encoder=torchvision_backbone", "encoder.network=mobilenet_v3_small"]
    given = [*chosen, "data=image_folder", f"data.path={tmp_path}"]
    frozen = place_encoder(compose_config(*given, "encoder.frozen=true", f"encoder.weights={tmp_path / 'weights.pt'}"))
    assert is_described(frozen)
    learning = place_encoder(compose_config(*given))
    assert learning.data.descriptor == {
        "_target_": "deephash.data.descriptors.Pixels",
        "image_size": 256,
        "interpolation": "bilinear",
    }
    cropped = place_encoder(compose_config(*chosen, "data=image_lists", f"data.root={tmp_path}"))
    assert cropped.encoder.crop == 1.0
    assert cropped.data.descriptor.image_size == 224
    # Of a run of an earlier version, whose encoder takes the pixels of its data.
    added = ("unfreeze_from", "rate", "checkpointing", "precision", "crop", "interpolation")
    earlier = compose_config(*given)
    with open_dict(earlier):
        for name in added:
            del earlier.encoder[name]
    assert place_encoder(earlier) is earlier


WITHOUT_FEATURES = [
    (["encoder.frozen=false"], "encoder=timm is fine-tuned as a part of the hasher; set encoder.frozen=true"),
    (["encoder=mlp"], "encoder=mlp is not a pretrained network; choose one"),
    (["data=mnist5k"], "data=mnist5k gives no images to encoder=timm; choose data of images"),
    (["augmentation=crop_and_flip"], "the augmentation changes images.*; choose an augmentation of features"),
]


@pytest.mark.parametrize("head", ["encoder@head=mlp", "head.dropout=0.1"])
@pytest.mark.parametrize(("overrides", "message"), WITHOUT_FEATURES)
def test_a_head_that_would_have_no_effect_is_an_error(head, overrides, message, compose_config):
    given = ["method=csq", "data=image_folder", "data.path=missing", "encoder=timm", f"encoder.network={NETWORK}"]
    settings = dict(override.split("=", 1) for override in [*given, *overrides])
    if not settings["encoder"].startswith("timm"):
        del settings["encoder.network"]
    if settings["data"] == "mnist5k":
        del settings["data.path"]
    config = place_encoder(compose_config(*(f"{name}={value}" for name, value in settings.items())))
    with pytest.raises(
        InvalidInputError, match=rf"{head} sets layers .*, but {message}.*, or omit {head.split('=')[0]}"
    ):
        check_head(config, ["bits=8", head])
    check_head(config, ["bits=8"])  # the head of the method


def test_a_head_on_the_features_of_a_frozen_network_is_right(compose):
    config = place_encoder(compose("method=itq", "encoder@head=mlp"))
    check_head(config, ["method=itq", "encoder@head=mlp", "head.dropout=0.1"])
    assert get_hasher_encoder(config)._target_.endswith("MLP")
