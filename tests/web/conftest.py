"""Runs on real pictures, articles and sentences for the page to show, and their answers computed independently."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import deephash
from deephash.data.protocols.base import Split
from deephash.training.building import build_data

# Of CIFAR-10's 60,000 images, so that their GIST takes seconds.
SEARCHED, ASKING = 1500, 100
SENTENCES = 120
# Of the browser.
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def pictures(cifar10_npz, tmp_path_factory) -> Path:
    """Some of CIFAR-10's images, as an `.npz` of images, labels, is_test and classes."""
    path = tmp_path_factory.mktemp("pictures") / "cifar10.npz"
    with np.load(cifar10_npz, allow_pickle=False) as stored:
        draw, is_test = np.random.default_rng(0), stored["is_test"]
        parts = ((np.flatnonzero(~is_test), SEARCHED), (np.flatnonzero(is_test), ASKING))
        kept = np.concatenate([draw.choice(rows, size, replace=False) for rows, size in parts])
        arrays = {name: stored[name][kept] for name in ("images", "labels", "is_test")}
        np.savez(path, classes=stored["classes"], **arrays)
    return path


@pytest.fixture(scope="session")
def make_run(compose_config, tmp_path_factory):
    """A function that trains a run without figures: its folder's name and settings → the folder."""
    from deephash.command_line.programs.train import train

    def made(name: str, *settings: str) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        train(compose_config(*settings, "figures=false", "metrics.at=[10]"), folder)
        return folder

    return made


@pytest.fixture(scope="session")
def picture_settings(pictures) -> list[str]:
    gist = ["data=cifar10_gist", f"data.path={pictures}", f"data.cache={pictures.parent}"]
    return [*gist, "protocol=official", "bits=32"]


@pytest.fixture(scope="session")
def itq_run(make_run, picture_settings) -> Path:
    return make_run("itq", "method=itq", *picture_settings)


@pytest.fixture(scope="session")
def lsh_run(make_run, picture_settings) -> Path:
    return make_run("lsh", "method=lsh", *picture_settings)


@pytest.fixture(scope="session")
def digits_run(make_run) -> Path:
    """Two bits per projection, ranked by Manhattan distance; features that come without a descriptor."""
    return make_run("digits", "method=pcah", "quantizer=mhq", "bits=16", "protocol=five_way_small")


@pytest.fixture(scope="session")
def wiki_run(make_run, real_data) -> Path:
    return make_run("wiki", "method=cvh", "data=wiki", f"data.path={real_data / 'wiki.npz'}", "bits=16")


@pytest.fixture(scope="session")
def sentences_run(make_run, pictures, tmp_path_factory) -> Path:
    """CIFAR-10's pictures with a sentence about each, in COCO's layout; texts are described by their words."""
    folder = publish(pictures, tmp_path_factory.mktemp("sentences"))
    return make_run(
        "sentences",
        "method=cvh",
        "data=coco_captions",
        f"data.path={folder}",
        f"data.cache={folder}",
        "~data.image_descriptor",
        "+data.image_descriptor={_target_: deephash.data.descriptors.pixels.Pixels, image_size: 8}",
        "~data.text_descriptor",
        "+data.text_descriptor={_target_: deephash.data.text_descriptors.hashed_words.HashedWords, dimension: 32}",
        "protocol=literature",
        "protocol.queries=20",
        "bits=16",
    )


def publish(pictures: Path, folder: Path) -> Path:
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    with np.load(pictures, allow_pickle=False) as stored:
        images, labels, classes = stored["images"][:SENTENCES], stored["labels"].tolist(), stored["classes"].tolist()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "val2017" / f"{number}.png")
    listed = [{"id": number, "file_name": f"{number}.png"} for number in range(SENTENCES)]
    captions = [
        {"id": number, "image_id": number, "caption": f"A small photograph of one {classes[labels[number]]}."}
        for number in range(SENTENCES)
    ]
    objects = [{"image_id": number, "category_id": labels[number]} for number in range(SENTENCES)]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    contents = {
        "captions_val2017": {"images": listed, "annotations": captions},
        "instances_val2017": {"images": listed, "annotations": objects, "categories": categories},
    }
    for name, content in contents.items():
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return folder


@dataclass
class WorkedOut:
    """A run's parts, read by the library's own functions, and answers by NumPy."""

    folder: Path

    def __post_init__(self):
        config = OmegaConf.load(self.folder / "config.yaml")
        self.data = build_data(config, Split.load(self.folder / "split.npz"))
        self.data.prepare_data()
        self.data.setup()
        self.hasher = deephash.load(self.folder)
        self.queries, self.database = self.data.ids("query"), self.data.ids("database")

    def bits(self, rows: np.ndarray, view: str = "") -> np.ndarray:
        """Bits of items, uint8 (n, b)."""
        features = self.data.items.features[torch.from_numpy(rows)]
        codes = self.hasher.view(view).encode(features.of(view)) if view else self.hasher.encode(features)
        return unpacked(codes, self.hasher.bits)

    def nearest(self, bits: np.ndarray, k: int, searched: str = "") -> tuple[list[int], list[int]]:
        """Rows and Hamming distances of the k nearest, ties by their place in the database."""
        distances = (self.bits(self.database, searched) != bits).sum(1)
        order = distances.argsort(kind="stable")[:k]
        return self.database[order].tolist(), distances[order].tolist()


def unpacked(codes: torch.Tensor, bits: int) -> np.ndarray:
    return np.unpackbits(codes.numpy(), axis=1, bitorder="little")[:, :bits]


@pytest.fixture(scope="session")
def itq(itq_run) -> WorkedOut:
    return WorkedOut(itq_run)


@pytest.fixture(scope="session")
def lsh(lsh_run) -> WorkedOut:
    return WorkedOut(lsh_run)


@pytest.fixture(scope="session")
def worked_out():
    """A function from a run's folder to its parts."""
    return WorkedOut


@pytest.fixture(scope="session")
def picture_file(pictures):
    """A function from an item's row and a format to its picture as a file's contents."""
    import io

    with np.load(pictures, allow_pickle=False) as stored:
        images = stored["images"]

    def contents(row: int, kind: str = "PNG") -> bytes:
        stream = io.BytesIO()
        Image.fromarray(images[row]).save(stream, kind)
        return stream.getvalue()

    return contents


@pytest.fixture(scope="module")
def chromium():
    """The browser, or a reason to skip."""
    for package in ("fastapi", "playwright"):
        pytest.importorskip(package, reason="needs pip install 'deephash[test]'")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is installed (or set CHROMIUM)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()
