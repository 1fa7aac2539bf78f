"""NUS-WIDE in the publisher's layout, written by the tests for 60 items."""

import numpy as np
import pytest
import torch

from deephash.data.nuswide import CONCEPTS, NUSWIDE, TAGS, WORDS, find_most_frequent
from deephash.data.protocols.official import Official
from deephash.data.protocols.query_database import QueryDatabase
from deephash.validation import InvalidInputError

RNG = np.random.default_rng(0)
N = 60
BAG = RNG.integers(0, 9, (N, WORDS))
TAGGED = RNG.random((N, TAGS)) < 0.01
# Concept c is in a share of the items that falls with c, but for c = 3, which is everywhere, and some have none.
LABELLED = RNG.random((N, CONCEPTS)) < 0.3 / (1 + np.arange(CONCEPTS))
LABELLED[:, 3] |= np.arange(N) % 2 == 0
IS_TRAIN = RNG.random(N) < 0.6
NAMES = [f"concept{c:02}" for c in range(CONCEPTS)]


def write(path, table, ending=" \n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(map(str, row)) + ending for row in np.atleast_2d(table.astype(int).T).T))


def publish(folder, split_words=False):
    for c, name in enumerate(NAMES):
        write(folder / "Groundtruth" / "AllLabels" / f"Labels_{name}.txt", LABELLED[:, c], "\n")
    write(folder / "NUS_WID_Tags" / "AllTags1k.txt", TAGGED, "\t\r\n")
    features, lists = folder / "Low_Level_Features", folder / "ImageList"
    lists.mkdir()
    names = [f"actor\\{i:04}_{7 * i}.jpg" for i in range(N)]
    (lists / "Imagelist.txt").write_text("\n".join(names) + "\n")
    for part, mask in (("Train", IS_TRAIN), ("Test", ~IS_TRAIN)):
        own = [name for name, member in zip(names, mask, strict=True) if member]
        (lists / f"{part}Imagelist.txt").write_text("".join(f"C:\\ImageData\\Flickr\\{name} \n" for name in own))
        if split_words:
            write(features / f"BoW_{part}_int.dat", BAG[mask])
    if not split_words:
        write(features / "BoW_int.dat", BAG)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("nuswide"))


def module(path, tmp_path, protocol=None, **parameters):
    data = NUSWIDE(protocol or Official(), 0, path=str(path), cache=str(tmp_path / "cache"), **parameters)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("concepts", [1, 10, 21, 81])
def test_items_with_the_most_frequent_concepts(published, tmp_path, concepts):
    items = module(published, tmp_path, concepts=concepts).items
    counts = LABELLED.sum(0)
    columns = sorted(range(CONCEPTS), key=lambda c: (-counts[c], c))[:concepts]
    columns = sorted(columns)
    kept = LABELLED[:, columns].any(1)
    assert 0 < kept.sum() < N
    assert items.class_names == tuple(NAMES[c] for c in columns)
    assert np.array_equal(items.labels.numpy(), LABELLED[kept][:, columns])
    assert np.array_equal(items.features.of("image").numpy(), BAG[kept])
    assert np.array_equal(items.features.of("text").numpy(), TAGGED[kept])
    assert items.official.tolist() == ["train" if train else "query" for train in IS_TRAIN[kept]]


def test_words_in_two_files_go_to_their_images(published, tmp_path):
    whole = module(published, tmp_path)
    split = module(publish(tmp_path / "split", split_words=True), tmp_path)
    assert torch.equal(whole.items.features.of("image"), split.items.features.of("image"))
    assert torch.equal(whole.part("query").features.of("text"), split.part("query").features.of("text"))


def test_one_view_and_no_lists(tmp_path):
    folder = publish(tmp_path / "n")
    for file in (folder / "ImageList").iterdir():
        file.unlink()
    items = module(folder, tmp_path, QueryDatabase(queries=5, train=10), view="text").items
    assert items.official is None
    assert items.features.shape == (len(items), TAGS)


def test_tables_are_read_once(tmp_path, monkeypatch):
    folder = publish(tmp_path / "n")
    first = module(folder, tmp_path).items
    monkeypatch.setattr("deephash.data.nuswide.read_numbers", lambda *_: pytest.fail("read again"))
    again = module(folder, tmp_path).items
    assert torch.equal(first.features.of("image"), again.features.of("image"))


def test_equally_frequent_concepts_are_taken_in_order():
    labels = np.array([[1, 0, 1, 1], [0, 1, 0, 1]])
    assert find_most_frequent(labels, 1).tolist() == [3]
    assert find_most_frequent(labels, 3).tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "Groundtruth/AllLabels/Labels_concept07.txt").unlink(),
            "has labels of 80 concepts, not 81: Gro",
        ),
        (
            lambda f: (f / "NUS_WID_Tags/AllTags1k.txt").unlink(),
            "AllTags1k.txt does not exist; the layout is Groundtruth",
        ),
        (lambda f: (f / "Low_Level_Features/BoW_int.dat").unlink(), "BoW_int.dat does not exist; the layout is"),
        (
            lambda f: write(f / "NUS_WID_Tags/AllTags1k.txt", TAGGED[:, :7]),
            "contains 420 numbers, not a multiple of 1000",
        ),
        (lambda f: write(f / "NUS_WID_Tags/AllTags1k.txt", TAGGED[:9]), "labels of 60 items and text features of 9"),
        (lambda f: (f / "Low_Level_Features/BoW_int.dat").write_text("1 2 x"), "is not a table of numbers"),
        (
            lambda f: write(f / "Groundtruth/AllLabels/Labels_concept07.txt", TAGGED[:9, 0]),
            "have 9 to 60 lines; expect",
        ),
        (lambda f: (f / "ImageList/TestImagelist.txt").unlink(), "TestImagelist.txt cannot be read"),
        (
            lambda f: (f / "ImageList/TestImagelist.txt").write_text(""),
            "is in both or neither of ImageList/TrainImagelist",
        ),
    ],
)
def test_other_folders_are_refused(tmp_path, spoil, message):
    folder = publish(tmp_path / "n")
    spoil(folder)
    with pytest.raises(InvalidInputError, match=message):
        module(folder, tmp_path)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"path": None},
            r"path=None; give the folder of NUS-WIDE: data.path=FOLDER with Groundtruth/AllLabels/Labels_NAME",
        ),
        ({"path": "n", "concepts": 82}, "concepts=82; NUS-WIDE has 81: 10 and 21 are usual"),
        ({"path": "n", "concepts": 0}, "concepts=0"),
        ({"path": "n", "view": "tags"}, "view='tags'; expected one of: image, text"),
    ],
)
def test_settings_are_checked(parameters, message):
    with pytest.raises(InvalidInputError, match=message):
        NUSWIDE(Official(), 0, **parameters)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(InvalidInputError, match="absent is not a folder; give one with Groundtruth"):
        module(tmp_path / "absent", tmp_path)
