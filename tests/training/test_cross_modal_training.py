"""Joint training of two views: deep methods learn pairs, each view may have its own network, losses fit the data."""

import json

import numpy as np
import pytest
import torch

from deephash.command_line.programs.train import train
from deephash.encoders.convolutional import Convolutional
from deephash.encoders.mlp import MLP
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.loading import load
from deephash.io.run_folder import RunFolder
from deephash.training.building import build_hasher
from deephash.validation import InvalidInputError

CLASSES, ITEMS, SIDE, TOPICS = 4, 480, 8, 12
CHANCE = 1 / CLASSES
FEW = ("bits=8", "metrics.at=[10]", "figures=false")
ACROSS = ("image_to_text/mAP", "text_to_image/mAP")
OWN_NETWORKS = ("encoder=mlp", "+encoder@encoder.image=convolutional")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Images with a bright square in one of four corners, and texts on the topics of that corner."""
    folder = tmp_path_factory.mktemp("pairs")
    draw = np.random.default_rng(0)
    labels = np.arange(ITEMS) % CLASSES
    images = draw.random((ITEMS, SIDE, SIDE)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        top, left = (SIDE // 2 * (label // 2), SIDE // 2 * (label % 2))
        image[top : top + 4, left : left + 4] += 0.7
    topics = np.kron(np.eye(CLASSES), np.ones(TOPICS // CLASSES))[labels]
    texts = draw.dirichlet(np.ones(TOPICS), ITEMS) + 0.15 * topics * draw.random((ITEMS, TOPICS))
    for name, array in (("x", images.reshape(ITEMS, -1)), ("t", texts.astype(np.float32)), ("y", labels)):
        np.save(folder / f"{name}.npy", array)
    sizes = ("queries=60", "validation_queries=60", "train=200", "validation_database=80", "database=rest")
    return (
        "data=paired_arrays",
        f"data.features=[{folder / 'x.npy'},{folder / 't.npy'}]",
        f"data.labels={folder / 'y.npy'}",
        "protocol=five_way",
        *(f"protocol.{size}" for size in sizes),
    )


@pytest.mark.parametrize("method", ["dcmh", "djsrh", "dchmt", "ucch"])
def test_deep_methods_learn_both_directions_and_are_stored(method, pairs, compose_config, tmp_path):
    small = ("encoder.hidden=[64]", "train.epochs=12", "train.validate_every=12", "train.batch_size=50")
    result = train(compose_config(f"method={method}", *pairs, *small, *FEW), tmp_path)
    run = RunFolder(result.folder)
    told = json.loads(run.history.read_text())["epochs"]
    start, end = (entry["validation"] for entry in (told[0], told[-1]))
    assert end["mAP"] > start["mAP"] + 0.02
    for direction in ACROSS:
        assert result.row["metrics"][direction] > 1.4 * CHANCE
    assert result.row["loss"] == method
    stored = load(run.hasher)
    assert isinstance(stored, CrossModalHasher)
    assert {name: type(part) for name, part in stored.encoder.items()} == {"image": MLP, "text": MLP}


@pytest.mark.parametrize("method", ["dcmh", "ucch"])
def test_losses_of_two_views_are_nested(method, pairs, compose_config, tmp_path):
    settings = ("encoder.hidden=[16]", "train.epochs=1", "train.batch_size=100", "train.select_by=null")
    chosen = (f"method={method}", f"loss=[{method},nested]", "loss.nested.prefixes=[4,16]")
    result = train(compose_config(*pairs, *chosen, *settings, *FEW, "bits=16"), tmp_path)
    assert result.row["loss"] == f"{method}+nested"
    assert all(0 < result.row["metrics"][direction] <= 1 for direction in ACROSS)


@pytest.mark.parametrize("loss", ["ap", "dcmh", "djsrh"])
def test_each_view_has_a_network_of_its_own_and_both_learn(loss, pairs, compose_config, tmp_path):
    settings = ("encoder.image.widths=[8,16]", "encoder.hidden=[16]", "train.epochs=1", "train.batch_size=100")
    chosen = ("method=cvh", "train=joint", f"loss={loss}", "train.select_by=null", *OWN_NETWORKS, *settings)
    result = train(compose_config(*pairs, *chosen, *FEW), tmp_path)
    run = RunFolder(result.folder)
    fitted, trained = load(run.start), load(run.hasher)
    for name, kind in (("image", Convolutional), ("text", MLP)):
        assert type(trained.encoder[name]) is kind
        for part in ("encoder", "projection"):
            module = part if part == "encoder" else "projection.views"
            before, after = (
                dict(hasher.get_submodule(f"{module}.{name}").named_parameters()) for hasher in (fitted, trained)
            )
            moved = [key for key, weight in after.items() if not torch.equal(weight, before[key])]
            assert moved, f"{part} of {name}"
    assert all(0 < result.row["metrics"][direction] <= 1 for direction in ACROSS)


def test_networks_are_named_for_each_view(compose_config):
    config = compose_config("method=dcmh", *OWN_NETWORKS, "encoder.image.widths=[8,16]", "bits=8")
    hasher = build_hasher(config, {"image": SIDE * SIDE, "text": TOPICS})
    assert isinstance(hasher.view("image").encoder, Convolutional)
    assert isinstance(hasher.view("text").encoder, MLP)
    assert hasher.view("text").encoder.hidden == config.encoder.hidden
    config.encoder = {"image": config.encoder.image}
    with pytest.raises(InvalidInputError, match="encoder has settings for image, but none for the view text"):
        build_hasher(config, {"image": SIDE * SIDE, "text": TOPICS})
    config = compose_config("method=dcmh", "+encoder@encoder.imge=convolutional", "bits=8")
    with pytest.raises(InvalidInputError, match="unexpected keyword argument 'imge'"):
        build_hasher(config, {"image": SIDE * SIDE, "text": TOPICS})


@pytest.mark.parametrize("loss", ["reconstruction", "npq_objective", "greedy_penalty"])
def test_losses_of_one_view_are_refused_for_two(loss, pairs, compose_config, tmp_path):
    config = compose_config(*pairs, "method=cvh", "train=joint", f"loss={loss}", *FEW)
    with pytest.raises(InvalidInputError, match=f"loss={loss} uses features or thresholds of one view"):
        train(config, tmp_path)


def test_losses_of_two_views_are_refused_for_one(compose_config, tmp_path):
    config = compose_config("method=lsh", "protocol=five_way_small", "train=joint", "loss=djsrh", *FEW)
    with pytest.raises(InvalidInputError, match="compares two views of an item; choose data with two"):
        train(config, tmp_path)
