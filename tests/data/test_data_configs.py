"""Every data set's YAML makes its module, with nothing but a protocol, a seed and a split from outside."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deephash.data.base import HashingDataModule
from deephash.protocols.query_database import QueryDatabase
from deephash.validation import InvalidInputError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "conf" / "data").glob("*.yaml"))
USERS_OWN = {"arrays": "features", "image_folder": "path"}


def test_the_data_sets_are_those_documented():
    names = {path.stem for path in CONFIGS}
    assert names == {"arrays", "cifar10", "cifar10_gist", "image_folder", "mnist5k", "sift1m", "siftsmall"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_makes_its_module(path, monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPHASH_CACHE", str(tmp_path))
    config = OmegaConf.load(path)
    assert path.read_text().startswith(f"# data={path.stem}")
    if path.stem in USERS_OWN:
        with pytest.raises(Exception, match=f"{USERS_OWN[path.stem]}=None; give the f") as caught:
            instantiate(config, protocol=QueryDatabase(), seed=3, split=None)
        assert isinstance(caught.value.__cause__ or caught.value, InvalidInputError)
        config[USERS_OWN[path.stem]] = "mine.npy"
    module = instantiate(config, protocol=QueryDatabase(), seed=3, split=None)
    assert isinstance(module, HashingDataModule)
    assert module.seed == 3
    if "cache" in config:
        assert Path(module.cache) == tmp_path


def test_mnist5k_needs_no_download():
    config = OmegaConf.load(next(path for path in CONFIGS if path.stem == "mnist5k"))
    data = instantiate(config, protocol=QueryDatabase(queries=500), seed=0, split=None)
    data.prepare_data()
    data.setup()
    items = data.items
    assert items.features.shape == (5000, 784)
    assert items.features.dtype == torch.float32
    assert (items.features.min(), items.features.max()) == (0, 1)
    assert torch.bincount(items.labels).tolist() == [500] * 10
    assert np.array_equal(items.images.reshape(5000, -1), np.round(items.features.numpy() * 255).astype(np.uint8))
    # A digit's mean image is nearer to its own images than the other digits' are, for most.
    means = torch.stack([items.features[items.labels == digit].mean(0) for digit in range(10)])
    assert (torch.cdist(items.features, means).argmin(1) == items.labels).float().mean() > 0.75
