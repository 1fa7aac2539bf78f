import os

import numpy as np
import polars
import pytest
import torch

from deephash.data.arrays import Arrays
from deephash.data.protocols.query_database import QueryDatabase
from deephash.data.vectors import write_vectors
from deephash.validation import InvalidInputError

FEATURES = np.random.default_rng(0).integers(0, 100, (30, 4)).astype(np.float32)
CLASSES = np.arange(30) % 3
NAMES = np.array(["ape", "bee", "cat"])[CLASSES]
TABLE = np.eye(3, dtype=np.uint8)[CLASSES]


def load(folder, features, labels=None, **parameters):
    data = Arrays(
        QueryDatabase(queries=6),
        0,
        features=str(folder / features),
        labels=None if labels is None else str(folder / labels),
        **parameters,
    )
    data.setup()
    return data.items


def save(folder, name, array):
    if name.endswith(".npy"):
        np.save(folder / name, array)
    elif name.endswith("vecs"):
        write_vectors(folder / name, array)
    elif name.endswith(".npz"):
        np.savez(folder / name, only=array)
    else:
        polars.DataFrame({f"f{i}": column for i, column in enumerate(np.atleast_2d(array.T))}).write_parquet(
            folder / name
        )


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet", "x.fvecs", "x.bvecs", "x.ivecs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, np.float16])
def test_features_of_every_format_and_number(tmp_path, name, dtype):
    if name.endswith(".parquet") and dtype == np.float16:
        pytest.skip("Parquet's half floats are not written by polars")
    save(tmp_path, name, FEATURES.astype(dtype))
    items = load(tmp_path, name)
    assert items.features.dtype == torch.float32
    assert np.array_equal(items.features.numpy(), FEATURES)
    assert items.labels is None
    assert items.class_names == ()


@pytest.mark.parametrize("name", ["y.npy", "y.npz", "y.parquet"])
def test_labels_of_every_format_and_kind(tmp_path, name):
    save(tmp_path, "x.npy", FEATURES)
    save(tmp_path, name, CLASSES + 5)
    items = load(tmp_path, "x.npy", name)
    assert items.labels.tolist() == CLASSES.tolist()
    assert items.class_names == ("5", "6", "7")
    save(tmp_path, name, NAMES)
    items = load(tmp_path, "x.npy", name)
    assert items.labels.tolist() == CLASSES.tolist()
    assert items.class_names == ("ape", "bee", "cat")
    save(tmp_path, name, TABLE)
    items = load(tmp_path, "x.npy", name)
    assert np.array_equal(items.labels.numpy(), TABLE == 1)


@pytest.mark.parametrize("name", ["y.ivecs", "y.bvecs"])
def test_labels_from_files_of_vectors(tmp_path, name):
    save(tmp_path, "x.npy", FEATURES)
    save(tmp_path, name, CLASSES[:, None])
    assert load(tmp_path, "x.npy", name).labels.tolist() == CLASSES.tolist()
    save(tmp_path, name, TABLE)
    assert np.array_equal(load(tmp_path, "x.npy", name).labels.numpy(), TABLE == 1)


def test_one_npz_for_both(tmp_path):
    np.savez(tmp_path / "d.npz", x=FEATURES, y=NAMES, other=np.ones(3))
    items = load(tmp_path, "d.npz", features_key="x", labels_key="y")
    assert np.array_equal(items.features.numpy(), FEATURES)
    assert items.labels.tolist() == CLASSES.tolist()
    np.savez(tmp_path / "d.npz", x=FEATURES, y=NAMES)
    assert np.array_equal(load(tmp_path, "d.npz", labels_key="y").features.numpy(), FEATURES)
    items = load(tmp_path, "d.npz", "d.npz", features_key="x", labels_key="y")
    assert items.labels.tolist() == CLASSES.tolist()


def test_one_parquet_file_for_both(tmp_path):
    columns = {f"f{i}": FEATURES[:, i] for i in range(4)}
    table = polars.DataFrame(columns | {"name": NAMES, "a": TABLE[:, 0], "b": TABLE[:, 1], "c": TABLE[:, 2]})
    table.drop("a", "b", "c").write_parquet(tmp_path / "t.parquet")
    items = load(tmp_path, "t.parquet", labels_key="name")
    assert np.array_equal(items.features.numpy(), FEATURES)
    assert items.class_names == ("ape", "bee", "cat")
    table.drop("name").write_parquet(tmp_path / "t.parquet")
    items = load(tmp_path, "t.parquet", labels_key=["a", "b", "c"])
    assert np.array_equal(items.features.numpy(), FEATURES)
    assert np.array_equal(items.labels.numpy(), TABLE == 1)
    items = load(tmp_path, "t.parquet", features_key=["f2", "f0"])
    assert np.array_equal(items.features.numpy(), FEATURES[:, [2, 0]])


@pytest.mark.parametrize("kind", [polars.List(polars.Float32), polars.Array(polars.Float32, 4)])
def test_a_parquet_column_of_lists(tmp_path, kind):
    table = polars.DataFrame(
        {"x": polars.Series(FEATURES.tolist(), dtype=kind), "y": polars.Series(NAMES).cast(polars.Categorical)}
    )
    table.write_parquet(tmp_path / "t.parquet")
    items = load(tmp_path, "t.parquet", labels_key="y")
    assert np.array_equal(items.features.numpy(), FEATURES)
    assert items.labels.tolist() == CLASSES.tolist()


def test_images_to_show(tmp_path):
    images = np.zeros((30, 4, 4, 3), np.uint8)
    np.save(tmp_path / "x.npy", FEATURES)
    np.save(tmp_path / "i.npy", images)
    assert load(tmp_path, "x.npy", images=str(tmp_path / "i.npy")).images.shape == images.shape
    np.save(tmp_path / "i.npy", images[:9])
    with pytest.raises(
        InvalidInputError, match=r"images of .*i.npy have dtype uint8 and shape \(9, 4, 4, 3\); expected"
    ):
        load(tmp_path, "x.npy", images=str(tmp_path / "i.npy"))


def test_features_may_be_changed_without_touching_the_file(tmp_path):
    np.save(tmp_path / "x.npy", FEATURES)
    load(tmp_path, "x.npy").features.zero_()
    assert np.array_equal(np.load(tmp_path / "x.npy"), FEATURES)


def with_nan():
    features = FEATURES.copy()
    features[7, 2] = np.nan
    return features


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (with_nan(), "features of .*x.npy contain NaN or infinity in 1 of 30 rows, the first at row 7"),
        (np.full((30, 4), 1e300), "contain NaN or infinity in 30 of 30 rows"),
        (FEATURES[:0], "features of .*x.npy have no rows; expected at least one item"),
        (FEATURES[:, :0], r"have shape \(30, 0\); expected two axes, \(n, d\) with d at least 1"),
        (FEATURES[:, 0], r"have shape \(30,\); expected two axes"),
        (FEATURES[None], r"have shape \(1, 30, 4\); expected two axes"),
        (FEATURES.astype(str), "features of .*x.npy have dtype <U32; expected numbers"),
        (FEATURES.astype(complex), "have dtype complex128; expected numbers"),
    ],
)
def test_what_are_no_features_is_refused(tmp_path, features, message):
    np.save(tmp_path / "x.npy", features)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load(tmp_path, "x.npy")
    assert "\n" not in str(caught.value)


def test_python_objects_are_refused_unread(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    objects = np.array([[Trap()]], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=objects)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(
            InvalidInputError, match=r"contains Python objects, which only unsafe unpickling reads; save"
        ):
            load(tmp_path, name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet", "x.fvecs"])
def test_missing_and_damaged_files_are_refused(tmp_path, name):
    with pytest.raises(InvalidInputError, match=rf"{name} does not exist; give a file \(.npy, .npz, .parquet"):
        load(tmp_path, name)
    save(tmp_path, name, FEATURES)
    whole = (tmp_path / name).read_bytes()
    for spoilt in (whole[: len(whole) - 9], whole[:30], b""):
        (tmp_path / name).write_bytes(spoilt)
        with pytest.raises(InvalidInputError, match=r"is not readable as|truncated|is empty") as caught:
            load(tmp_path, name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("d.npz", {}, r"d.npz contains x, y; give the key of the array to read"),
        ("d.npz", {"features_key": "z"}, r"d.npz has no array 'z'; it contains x, y"),
        ("d.npz", {"features_key": ["x", "y"]}, r"has no array \['x', 'y'\]; it contains x, y"),
        ("t.parquet", {"features_key": "z"}, r"t.parquet has no column 'z'; it contains x, y"),
        ("t.parquet", {}, r"column 'y' of .*t.parquet is of type String; several columns form a matrix only if all"),
        ("t.parquet", {"features_key": ["x", "x"]}, r"column 'x' of .*t.parquet is named 2 times; name it once"),
        ("x.npy", {"features_key": "x"}, r"x.npy contains a single array without keys, but the key is 'x'; omit it"),
        ("x.npy", {"labels_key": "y"}, r"x.npy contains a single array without keys, but the key is 'y'"),
        ("x.csv", {}, r"x.csv ends in '.csv'; expected one of: .npy, .npz, .parquet, .fvecs, .bvecs, .ivecs"),
        (
            "n.parquet",
            {"features_key": ["x"]},
            r"column 'x' of .*n.parquet has 1 missing values; fill or remove them",
        ),
        (
            "l.parquet",
            {"features_key": "x"},
            r"column 'x' of .*l.parquet has lists of 1 to 2 values; expected one length",
        ),
    ],
)
def test_wrong_names_list_what_there_is(tmp_path, name, keys, message):
    np.savez(tmp_path / "d.npz", x=FEATURES, y=CLASSES)
    np.save(tmp_path / "x.npy", FEATURES)
    polars.DataFrame({"x": FEATURES[:, 0], "y": NAMES}).write_parquet(tmp_path / "t.parquet")
    polars.DataFrame({"x": [1.0, None, 2.0]}).write_parquet(tmp_path / "n.parquet")
    polars.DataFrame({"x": [[1.0, 2.0], [3.0]]}).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(InvalidInputError, match=message) as caught:
        load(tmp_path, name, **keys)
    assert "\n" not in str(caught.value)


def test_labels_of_another_number_of_rows_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", FEATURES)
    np.save(tmp_path / "y.npy", CLASSES[:29])
    with pytest.raises(InvalidInputError, match=r"labels of .*y.npy have 29 rows; expected 30, one for each row"):
        load(tmp_path, "x.npy", "y.npy")


def test_no_features_given_is_said():
    with pytest.raises(InvalidInputError, match=r"features=None; give the file of your features: data.features=x.npy"):
        Arrays(QueryDatabase(), 0, features=None)


def test_the_index_of_pandas_is_no_feature(tmp_path, caplog):
    """Shuffled rows keep their old places in a column of the file, which says so."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.arange(40.0).reshape(10, 4), columns=list("abcd")).sample(frac=1, random_state=0)
    frame.assign(label=frame.index % 2).to_parquet(tmp_path / "t.parquet")
    items = load(tmp_path, "t.parquet", labels_key="label")
    assert np.array_equal(items.features, frame.to_numpy())
    assert caplog.messages == [
        f"{tmp_path / 't.parquet'}: '__index_level_0__' left out (the index that pandas stored); to include "
        "it, give the wanted columns as keys."
    ]
    taken = load(tmp_path, "t.parquet", features_key=["a", "__index_level_0__"])
    assert np.array_equal(taken.features[:, 1], frame.index)
    frame[["a", "b"]].rename_axis("key").to_parquet(tmp_path / "t.parquet")
    assert load(tmp_path, "t.parquet").features.shape == (10, 2)
    (frame.index % 2).to_series(frame.index, "label").to_frame().to_parquet(tmp_path / "y.parquet")
    labelled = load(tmp_path, "t.parquet", labels="y.parquet")
    assert labelled.labels.tolist() == (frame.index % 2).tolist()


def test_ids_in_a_parquet_file_are_no_feature(tmp_path, caplog):
    for name, ids in (("id", range(30)), ("ID", range(30)), ("id", map(str, range(30)))):
        caplog.clear()
        polars.DataFrame({name: list(ids), "a": FEATURES[:, 0], "b": FEATURES[:, 1]}).write_parquet(
            tmp_path / "i.parquet"
        )
        assert np.array_equal(load(tmp_path, "i.parquet").features, FEATURES[:, :2])
        assert f"'{name}' left out (ids of the items); to include it, give the wanted columns as keys" in caplog.text
    polars.DataFrame({"id": CLASSES}).write_parquet(tmp_path / "y.parquet")
    assert load(tmp_path, "i.parquet", "y.parquet").labels.tolist() == CLASSES.tolist()


def test_one_parquet_column_of_any_kind_of_number_is_one_feature(tmp_path):
    column = polars.Series("a", FEATURES[:, 0])
    for kind in (polars.Float64, polars.UInt8, polars.Decimal(8, 2)):
        polars.DataFrame({"a": column.cast(kind)}).write_parquet(tmp_path / "a.parquet")
        for key in (None, "a"):
            assert np.array_equal(load(tmp_path, "a.parquet", features_key=key).features, FEATURES[:, :1])


@pytest.mark.parametrize("values", [["1", "2"], [[1.0], [2.0]], {"x": 1.0}])
def test_a_parquet_column_of_other_values_is_refused_by_its_type(tmp_path, values):
    polars.DataFrame({"a": [values] * 30}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(
        InvalidInputError, match=r"column 'a' of .* is of type (List|Struct).*expected numbers, strings or l"
    ):
        load(tmp_path, "a.parquet")
