"""Files that earlier versions wrote load, and give the bits that they gave then."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import deephash
from deephash.compression.additive_coder import AdditiveCoder
from deephash.data.views import Views

ARCHIVE = Path(__file__).parent / "fixtures" / "format_1.zip"
with zipfile.ZipFile(ARCHIVE) as archive:
    STORED = sorted({tuple(name.split("/")[:2]) for name in archive.namelist() if "/" in name})
HASHERS = [name for folder, *rest in STORED if folder == "hashers" for name in rest]
INDEXES = [name for folder, *rest in STORED if folder == "indexes" for name in rest]
RUNS = [name for folder, *rest in STORED if folder == "runs" for name in rest]
PAIRED = [name for name in HASHERS if name.startswith("paired-")]
SINGLE = [name for name in HASHERS if name not in PAIRED]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("format_1")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def expected(stored):
    with np.load(stored / "expected.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_the_archive_is_whole():
    """A hasher of each class that there was, so that none is left out unseen."""
    counts = {family: sum(name.startswith(f"{family}-") for name in HASHERS) for family in ("projection", "quantizer")}
    counts |= {family: sum(name.startswith(f"{family}-") for name in HASHERS) for family in ("relaxation", "encoder")}
    assert counts == {"projection": 28, "quantizer": 10, "relaxation": 10, "encoder": 9}
    assert (len(PAIRED), len(INDEXES), len(RUNS)) == (10, 9, 3)


@pytest.mark.parametrize("name", SINGLE)
def test_hasher_gives_the_same_bits(name, stored, expected):
    hasher = deephash.load(stored / "hashers" / name)
    features = torch.from_numpy(expected["features"])
    if name.startswith("encoder-"):
        features = torch.from_numpy(expected["images"]).float() / 255
    rows = torch.from_numpy(expected[f"rows/{name}"])
    assert np.array_equal(hasher.encode(features[rows]).numpy(), expected[f"codes/{name}"])
    relaxed = expected.get(f"relaxed/{name.removeprefix('relaxation-')}")
    if relaxed is not None:
        np.testing.assert_allclose(hasher.eval()(features[rows]).detach().numpy(), relaxed, atol=1e-5)


@pytest.mark.parametrize("name", PAIRED)
def test_hasher_of_two_views_gives_the_same_bits(name, stored, expected):
    hasher = deephash.load(stored / "hashers" / name)
    views = ("image", "text")
    codes = hasher.encode(Views({view: torch.from_numpy(expected[f"features/{view}"]) for view in views}))
    for view in views:
        assert np.array_equal(codes[view].numpy()[expected[f"rows/{name}/{view}"]], expected[f"codes/{name}/{view}"])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.needs(kind) if kind in ("duckdb", "lancedb", "usearch") else ())
        for kind in INDEXES
    ],
)
def test_index_finds_the_same(kind, stored, expected):
    index = deephash.load_index(stored / "indexes" / kind)
    distances, ids = index.search(expected["asked"], k=5)
    assert np.array_equal(distances.numpy(), expected[f"distances/{kind}"])
    if index.exact:
        assert np.array_equal(ids.numpy(), expected[f"ids/{kind}"])
    assert index.named(ids)[0, 0] == f"item-{int(ids[0, 0]):03d}"


def test_coder_gives_the_same_bits(stored, expected):
    rows = torch.from_numpy(expected["rows/coder"])
    codes = AdditiveCoder.load(stored / "coder").encode(torch.from_numpy(expected["features"])[rows])
    assert np.array_equal(codes.numpy(), expected["codes/coder"])


@pytest.mark.parametrize("name", [name for name in RUNS if name != "stream"])
def test_run_scores_the_same(name, stored, compose_config, tmp_path, monkeypatch):
    """Its data are named by relative paths, from the folder that it was trained in."""
    from deephash.training.evaluate_run import evaluate

    monkeypatch.chdir(stored)
    config = compose_config(f"run=runs/{name}", config_name="evaluate")
    result, row = evaluate(config, tmp_path / "again")
    assert row is not None
    metrics = json.loads((stored / "runs" / name / "metrics.json").read_text())["metrics"]
    assert result.row["metrics"] == pytest.approx(metrics, abs=1e-9, nan_ok=True)


def test_run_of_a_stream_loads(stored):
    hasher = deephash.load(stored / "runs" / "stream")
    assert hasher.encode(torch.from_numpy(np.load(stored / "x.npy"))).shape == (400, 2)


def test_file_of_codes_is_indexed(stored, tmp_path):
    """The codes that a run made, by the hasher that they name."""
    from deephash.code_files.code_file import read_codes

    found = read_codes(stored / "codes.npy")
    assert found.hasher == deephash.load(stored / "runs" / "fit").identity
