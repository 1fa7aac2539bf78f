"""Deep methods are YAML alone: each composes, accepts overrides, learns on real digits, and can be stored."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from deephash.command_line.programs.train import train
from deephash.evaluation import FittedTruth, score_codes
from deephash.hashers.hasher import Hasher
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.training.building import build_data, build_hasher, build_loss, build_score_settings
from deephash.training.dataset_cache import DatasetCache
from deephash.validation import InvalidInputError

CONF = Path(__file__).resolve().parents[2] / "conf"
UNSUPERVISED = {"bihalf", "cibhash", "djsrh", "ucch"}
# Ten classes of equal size: what codes that know nothing reach.
CHANCE = 0.1
SIZES = {
    "code_length": 16,
    "projections": 16,
    "classes": 10,
    "items": 1000,
    "input_dim": 784,
    "generator": torch.Generator(),
}
SMALL = ("protocol=five_way_small", "bits=16", "metrics.at=[10]", "figures=false")


def overrides_of(path):
    """The group choices of a method's YAML, and of those that it shares by `defaults`."""
    choices = {}
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")).get("defaults", []):
        if isinstance(entry, str):
            choices |= overrides_of(path.parent / f"{entry}.yaml")
        else:
            choices |= {key.removeprefix("override /"): value for key, value in entry.items()}
    return choices


METHODS = {path.stem: overrides_of(path) for path in sorted((CONF / "method").glob("*.yaml"))}
DEEP = {name: choices for name, choices in METHODS.items() if choices.get("train") == "joint"}
# What learns from two views is trained on them in test_cross_modal_training.py.
OF_TWO_VIEWS = {
    name for name in DEEP if "shared/deep_paired" in (CONF / "method" / f"{name}.yaml").read_text(encoding="utf-8")
}


def losses_of(choice):
    return [choice] if isinstance(choice, str) else list(choice)


@pytest.fixture(scope="module")
def kept():
    """What runs read, read once."""
    return DatasetCache()


@pytest.fixture(scope="module")
def digits(compose_config):
    """A small split of real digits."""
    data = build_data(compose_config(*SMALL))
    data.prepare_data()
    data.setup()
    return data


def test_the_known_ones_are_there():
    known = {"dsh", "dpsh", "hashnet", "dsdh", "dtsh", "greedyhash", "dpn", "csq", "orthohash", "cibhash", "bihalf"}
    assert known | {"dhd", "mdshc"} <= DEEP.keys() - OF_TWO_VIEWS
    assert {"dcmh", "djsrh", "dchmt", "ucch"} <= OF_TWO_VIEWS


@pytest.mark.parametrize("name", DEEP)
def test_it_chooses_all_that_its_paper_does(name, compose_config):
    config = compose_config(f"method={name}")
    assert config.train._target_ == "deephash.training.JointRunner"
    assert (
        config.relaxation._target_
        == yaml.safe_load((CONF / "relaxation" / f"{DEEP[name]['relaxation']}.yaml").read_text(encoding="utf-8"))[
            "_target_"
        ]
    )
    assert config.quantizer.relaxation == config.relaxation
    assert list(config.loss) == losses_of(DEEP[name]["loss"])
    assert config.choices.encoder in ("mlp", "residual_mlp")
    assert (config.get("augmentation") is not None) == ("augmentation" in DEEP[name])


@pytest.mark.parametrize("name", DEEP)
def test_the_command_line_wins(name, compose_config):
    chosen = ("encoder=identity", "relaxation=binary_concrete", "loss=mihash", "augmentation=feature_dropout")
    config = compose_config(f"method={name}", *chosen, "quantizer=npq", "train.batch_size=9", "train.epochs=3")
    assert config.choices.encoder == "identity"
    assert config.quantizer.relaxation._target_.endswith("BinaryConcrete")
    assert [loss for loss, entry in config.loss.items() if "_target_" in entry] == ["mihash"]
    assert config.augmentation._target_.endswith("FeatureDropout")
    assert config.quantizer._target_.endswith("NPQ")
    assert (config.train.batch_size, config.train.epochs) == (9, 3)
    assert compose_config(f"method={name}", "train=fit").train._target_.endswith("FitRunner")
    # To say what it does anyway changes nothing.
    assert compose_config(f"method={name}", "train=joint") == compose_config(f"method={name}")
    several = compose_config(f"method={name}", "loss=[ap,balance]")
    assert [loss for loss, entry in several.loss.items() if "_target_" in entry] == ["ap", "balance"]


@pytest.mark.parametrize("encoder", ["convolutional", "alexnet", "resnet50"])
def test_images_need_another_encoder_and_nothing_else(encoder, compose_config):
    config = compose_config("method=hashnet", "data=cifar10", f"encoder={encoder}", "bits=8")
    hasher = build_hasher(config, 32 * 32 * 3)
    assert hasher.projection.input_dim == hasher.encoder.output_dim > 8


def test_other_methods_are_trained_by_ap_unless_told_otherwise(compose_config):
    assert list(compose_config("method=itq", "train=joint").loss) == ["ap"]
    assert list(compose_config("method=itq", "train=joint", "loss=balance").loss) == ["balance"]
    assert compose_config("method=itq").get("loss") is None


def test_a_loss_of_the_method_that_was_replaced_is_left_out(compose_config):
    config = compose_config("method=greedyhash", "loss=dpsh", *SMALL)
    assert list(build_loss(config, SIZES).losses) == ["dpsh"]
    whole = build_loss(compose_config("method=greedyhash", *SMALL), SIZES)
    assert whole.weights == {"classification": 1.0, "greedy_penalty": 0.1}
    config.loss = {"greedy_penalty": {"weight": 0.1}}
    with pytest.raises(InvalidInputError, match="no loss; choose one"):
        build_loss(config, SIZES)


def test_a_setting_of_no_loss_is_refused(compose_config):
    config = compose_config("train=joint", "loss=ap", "+loss.balanse.weight=0.1")
    with pytest.raises(InvalidInputError, match=r"loss\.balanse sets a loss that does not exist"):
        build_loss(config, SIZES)


@pytest.mark.parametrize("name", sorted(DEEP.keys() - OF_TWO_VIEWS))
def test_it_learns_real_digits_and_is_stored(name, compose_config, kept, digits, tmp_path):
    epochs = 8
    schedule = (f"train.epochs={epochs}", f"train.validate_every={epochs}")
    config = compose_config(f"method={name}", *SMALL, *schedule, "encoder.hidden=[256]")
    result = train(config, tmp_path / name, kept)
    run = RunFolder(result.folder)
    told = json.loads(run.history.read_text())["epochs"]
    start, end = (entry["validation"]["mAP"] for entry in (told[0], told[-1]))
    assert [entry["epoch"] for entry in told] == [0, epochs]
    assert end > start + (0.02 if name in UNSUPERVISED else 0.1)
    assert result.row["metrics"]["mAP"] > 2 * CHANCE
    assert result.row["loss"] == "+".join(losses_of(DEEP[name]["loss"]))
    # What is stored is what was trained: the test score follows from it alone.
    hasher = Hasher.load(run.hasher)
    database, queries = (hasher.encode(digits.part(role).features) for role in ("database", "query"))
    relevance = FittedTruth(build(config.truth), digits).relevance(digits.part("query"), digits.part("database"))
    scored = score_codes(queries, database, relevance, hasher.distance)
    assert scored.results["mAP"] == result.row["metrics"]["mAP"]


def test_unsupervised_ones_read_no_labels(compose_config):
    for name in DEEP:
        config = compose_config(f"method={name}", *SMALL)
        required = build_loss(config, SIZES).requires
        assert bool(required & {"labels", "single_labels", "neighbours"}) == (name not in UNSUPERVISED), name


def test_greedyhash_s_classifier_learns_slower_than_its_network(compose_config):
    """At the network's rate it is sure of every item before the codes of a class agree."""
    rates = compose_config("method=greedyhash").train.rates
    assert dict(rates) == {"encoder": 1.0, "projection": 1.0, "quantizer": 1.0, "loss": 0.1}


def test_the_second_codes_of_dhd_are_those_of_strong_changes(compose_config, digits):
    strengths = ("augmentation.weak.scale=1e-9", "augmentation.strong.scale=3.0")
    config = compose_config("method=dhd", *SMALL, *strengths, "encoder.hidden=[32]", "encoder.dropout=0")
    part = digits.part("train").rows(torch.arange(50))
    hasher = build_hasher(config, 784).fit(part.features)
    truth = FittedTruth(build(config.truth), digits)
    settings = build_score_settings(config)
    joint = build(config.train).build_module(config, hasher, truth, settings, hasher.distance.maximum)
    joint.prepare()
    batch = joint.encode_batch({"positions": torch.arange(50), "features": part.features, "labels": part.labels})
    with torch.no_grad():
        plain = hasher.quantizer.unary(hasher.projection(hasher.encoder(part.features)))
    assert torch.allclose(batch.codes, plain, atol=1e-3)
    assert float((batch.second_codes.detach() - plain).abs().mean()) > 0.1
