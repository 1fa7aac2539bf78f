import numpy as np
import polars
import pytest
import torch

from deephash.data.paired_arrays import PairedArrays
from deephash.data.protocols.query_database import QueryDatabase
from deephash.validation import InvalidInputError

RNG = np.random.default_rng(0)
IMAGES = RNG.random((30, 4)).astype(np.float32)
TEXTS = RNG.random((30, 3))
CLASSES = np.arange(30) % 3


def load(folder, *files, **parameters):
    named = {name: str(folder / file) for name, file in parameters.items() if name in ("labels", "texts", "images")}
    data = PairedArrays(
        QueryDatabase(queries=6), 0, features=[str(folder / file) for file in files], **(parameters | named)
    )
    data.setup()
    return data.items


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "t.npy", TEXTS)
    np.save(tmp_path / "y.npy", CLASSES)
    return tmp_path


def without(array, *rows):
    holed = array.copy()
    holed[list(rows)] = np.nan
    return holed


def test_pairs_and_labels(folder):
    items = load(folder, "x.npy", "t.npy", labels="y.npy")
    assert items.features.names == ("image", "text")
    assert torch.equal(items.features.of("image"), torch.from_numpy(IMAGES))
    assert torch.equal(items.features.of("text"), torch.from_numpy(TEXTS).float())
    assert items.labels.tolist() == CLASSES.tolist()
    assert items.features.complete.all()


def test_views_have_names_and_may_be_more_than_two(folder):
    items = load(folder, "x.npy", "t.npy", "x.npy", views=["photo", "words", "sketch"])
    assert items.features.dimensions == {"photo": 4, "words": 3, "sketch": 4}
    assert items.labels is None


def test_one_npz_and_one_table_hold_both(folder):
    np.savez(folder / "d.npz", x=IMAGES, t=TEXTS, y=CLASSES)
    items = load(folder, "d.npz", "d.npz", features_keys=["x", "t"], labels="d.npz", labels_key="y")
    assert torch.equal(items.features.of("text"), torch.from_numpy(TEXTS).float())
    assert items.labels.tolist() == CLASSES.tolist()
    polars.DataFrame({"a": IMAGES[:, 0], "b": IMAGES[:, 1], "c": TEXTS[:, 0]}).write_parquet(folder / "t.parquet")
    items = load(folder, "t.parquet", "t.parquet", features_keys=[["a", "b"], ["c", "b"]])
    assert items.features.dimensions == {"image": 2, "text": 2}


def test_a_row_of_nan_is_a_missing_side(folder):
    np.save(folder / "x.npy", without(IMAGES, 3, 5))
    np.save(folder / "t.npy", without(TEXTS, 0))
    features = load(folder, "x.npy", "t.npy").features
    assert features.rows("image").tolist() == [i for i in range(30) if i not in (3, 5)]
    assert features.rows("text").tolist() == list(range(1, 30))
    assert torch.equal(features.of("image"), torch.from_numpy(np.delete(IMAGES, [3, 5], 0)))
    assert len(features.pairs()) == 27
    assert np.isnan(np.load(folder / "x.npy")[3]).all()  # the file is as it was


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x": without(IMAGES, 4), "t": without(TEXTS, 4)}, "item 4 has no view; remove it"),
        (
            {"x": np.where(IMAGES[2, 1] == IMAGES, np.nan, IMAGES)},
            r"image features of .*x.npy contain NaN in 1 of 4 colu.*2;",
        ),
        (
            {"t": np.full((30, 3), np.nan)},
            "text features of .* contain only NaN; at least one item must have this view",
        ),
        ({"t": TEXTS[:29]}, r"views have \{'image': 30, 'text': 29\} rows; expected one row per item in each view"),
        (
            {"t": np.where(TEXTS[2, 1] == TEXTS, np.inf, TEXTS)},
            "contain NaN or infinity in 1 of 30 rows, the first at row 2",
        ),
        ({"t": TEXTS[:, 0]}, r"have shape \(30,\); expected two axes"),
        ({"y": CLASSES[:9]}, "labels of .*y.npy have 9 rows; expected 30"),
    ],
)
def test_what_does_not_fit_is_refused(folder, files, message):
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array)
    with pytest.raises(InvalidInputError, match=message):
        load(folder, "x.npy", "t.npy", labels="y.npy")


def test_things_to_look_at(folder):
    np.save(folder / "w.npy", np.array([f"text {i}" for i in range(30)]))
    np.save(folder / "i.npy", np.zeros((30, 4, 4, 3), np.uint8))
    items = load(folder, "x.npy", "t.npy", texts="w.npy", images="i.npy")
    assert items.texts[7] == "text 7"
    assert items.images.shape == (30, 4, 4, 3)
    with pytest.raises(
        InvalidInputError, match=r"texts of .*y.npy have dtype int64 and shape \(30,\); expected strings \(30,\)"
    ):
        load(folder, "x.npy", "t.npy", texts="y.npy")
    with pytest.raises(InvalidInputError, match=r"images of .*x.npy have dtype float32 .* expected uint8"):
        load(folder, "x.npy", "t.npy", images="x.npy")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"features": None}, r"features=None; give the file of each view, such as data.features=\[image"),
        ({"features": ["x.npy"]}, r"features=\['x.npy'\]; give the file of each view"),
        ({"features": "x.npy"}, "features='x.npy'; give"),
        ({"features": ["x", "t"], "views": ["a"]}, r"views=\['a'\] for 2 files of features; give one for each"),
        ({"features": ["x", "t"], "views": ["a", "a"]}, r"views=\['a', 'a'\]; give each view a different name"),
        ({"features": ["x", "t"], "features_keys": ["k"]}, r"features_keys=\['k'\] for 2 files"),
    ],
)
def test_settings_are_checked(parameters, message):
    with pytest.raises(InvalidInputError, match=message):
        PairedArrays(QueryDatabase(), 0, **parameters)
