"""The Wikipedia articles, in the publisher's layout and as one file."""

import http.server
import threading
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from deephash.data import wiki
from deephash.data.descriptors.pixels import Pixels
from deephash.data.protocols.official import Official
from deephash.data.protocols.query_database import QueryDatabase
from deephash.data.text_descriptors.hashed_words import HashedWords
from deephash.data.views import Views
from deephash.data.wiki import Wiki
from deephash.data.wiki_files import CLASSES
from deephash.validation import InvalidInputError

RNG = np.random.default_rng(0)
LABELS = {"train": np.arange(20) % 10, "test": np.arange(10)[::-1].copy()}
IMAGES = {"train": RNG.random((20, 6)), "test": RNG.random((10, 6))}
TEXTS = {"train": RNG.random((20, 3)), "test": RNG.random((10, 3))}


def publish(folder, raw=True):
    """A folder in the publisher's layout: 20 pairs to train, 10 to test."""
    folder.mkdir(parents=True)
    matrices = {"I_tr": IMAGES["train"], "I_te": IMAGES["test"], "T_tr": TEXTS["train"], "T_te": TEXTS["test"]}
    savemat(folder / "raw_features.mat", matrices)
    (folder / "categories.list").write_text("\n".join(CLASSES) + "\n")
    for part, labels in LABELS.items():
        lines = [f"{part}{i}-text\t{part}{i}-image\t{label + 1}" for i, label in enumerate(labels)]
        (folder / f"{part}set_txt_img_cat.list").write_text("\n".join(lines) + "\n")
        for i, label in enumerate(labels) if raw else ():
            text = folder / "texts" / f"{part}{i}-text.xml"
            text.parent.mkdir(exist_ok=True)
            text.write_text(f"<document>\n<text>\n{CLASSES[label]}  &amp;\n article {i}\n</text></document>\n")
            image = folder / "images" / CLASSES[label] / f"{part}{i}-image.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 9), (25 * int(label), 0, 0)).save(image)
    return folder


def npz(path, **changes):
    arrays = {f"{kind}_{part}": rows[part] for kind, rows in (("image", IMAGES), ("text", TEXTS)) for part in rows}
    arrays |= {f"label_{part}": labels for part, labels in LABELS.items()}
    np.savez(path, **(arrays | {"class_names": np.array(CLASSES)} | changes))
    return path


def module(path, **parameters):
    data = Wiki(Official(), 0, path=str(path), **parameters)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("layout", ["folder", "npz"])
def test_both_layouts_give_the_same_pairs(tmp_path, layout):
    data = module(publish(tmp_path / "w", raw=False) if layout == "folder" else npz(tmp_path / "w.npz"))
    items = data.items
    assert data.feature_dim == {"image": 6, "text": 3}
    for view, rows in (("image", IMAGES), ("text", TEXTS)):
        expected = torch.from_numpy(np.concatenate(list(rows.values()))).float()
        assert torch.equal(items.features.of(view), expected)
    assert items.labels.tolist() == [*LABELS["train"], *LABELS["test"]]
    assert items.class_names == CLASSES
    assert items.images is None
    assert items.texts is None
    assert data.part("query").ids.tolist() == list(range(20, 30))
    assert data.part("train").ids.tolist() == data.part("database").ids.tolist() == list(range(20))


@pytest.mark.parametrize(("view", "rows"), [("image", IMAGES), ("text", TEXTS)])
def test_one_view_is_an_ordinary_data_set(tmp_path, view, rows):
    items = module(npz(tmp_path / "w.npz"), view=view).items
    assert not isinstance(items.features, Views)
    assert torch.equal(items.features[20:], torch.from_numpy(rows["test"]).float())


def test_articles_are_kept_to_look_at(tmp_path):
    items = module(publish(tmp_path / "w"), cache=str(tmp_path / "cache")).items
    assert items.texts[2] == "geography & article 2"
    assert items.texts[20] == "warfare & article 0"
    assert items.images.shape == (30, 64, 64, 3)
    assert abs(int(items.images[20, 30, 30, 0]) - 225) < 3  # class 9, as its image was painted
    # The published features are what is described, unless others are asked for.
    assert items.features.dimensions == {"image": 6, "text": 3}


def test_articles_can_be_described_anew(tmp_path):
    parameters = {"image_descriptor": Pixels(2), "text_descriptor": HashedWords(64), "cache": str(tmp_path / "cache")}
    items = module(publish(tmp_path / "w"), **parameters).items
    assert items.features.dimensions == {"image": 12, "text": 64}
    assert torch.equal(items.features.of("text"), HashedWords(64).describe(items.texts))
    red = items.features.of("image")[:, 0] * 255
    assert (red - 25 * items.labels).abs().max() < 4
    with pytest.raises(InvalidInputError, match=r"w.npz contains no images or texts to describe; give the publisher's"):
        module(npz(tmp_path / "w.npz"), **parameters)
    publish(tmp_path / "bare", raw=False)
    with pytest.raises(InvalidInputError, match="has no folder images to describe; unpack the whole archive"):
        module(tmp_path / "bare", **parameters)


def test_the_archive_is_fetched_and_unpacked_once(tmp_path, monkeypatch):
    publish(tmp_path / "published" / "wikipedia_dataset")
    with zipfile.ZipFile(tmp_path / "published" / "wiki.zip", "w") as file:
        for path in (tmp_path / "published" / "wikipedia_dataset").rglob("*"):
            file.write(path, path.relative_to(tmp_path / "published"))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "published"))

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(wiki, "ADDRESSES", (f"http://127.0.0.1:{server.server_address[1]}/wiki.zip",))
        try:
            for _ in range(2):
                data = Wiki(Official(), 0, cache=str(tmp_path / "cache"))
                data.prepare_data()
                data.setup()
        finally:
            server.shutdown()
            thread.join()
    assert asked == ["/wiki.zip"]
    assert len(data.items) == 30
    assert data.items.texts[0] == "art & article 0"
    assert sorted(file.name.split("-")[0] for file in (tmp_path / "cache").iterdir()) == ["thumbnails", "wiki"]


def spoil_list(folder, line):
    (folder / "trainset_txt_img_cat.list").write_text(line)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: spoil_list(folder, "a\tb\n"), r"line 1 of .*trainset_txt_img_cat.list is 'a\\tb'; expected a"),
        (lambda folder: spoil_list(folder, "a\tb\t11\n"), "expected a text, an image and a class from 1 to 10"),
        (lambda folder: spoil_list(folder, "a\tb\t1\n"), r"shape \(20, 6\) for 1 listed articles"),
        (lambda folder: (folder / "testset_txt_img_cat.list").unlink(), "testset_txt_img_cat.list cannot be read .*No"),
        (
            lambda folder: (folder / "raw_features.mat").write_bytes(b"x" * 300),
            "raw_features.mat is not readable as matrices",
        ),
        (lambda folder: savemat(folder / "raw_features.mat", {"I_tr": 1.0}), "has no I_te and no T_tr and no T_te"),
        (
            lambda folder: (folder / "raw_features.mat").unlink(),
            r"contains raw_features.mat 0 times; give the folder of",
        ),
    ],
)
def test_other_folders_are_refused(tmp_path, spoil, message):
    folder = publish(tmp_path / "w", raw=False)
    spoil(folder)
    with pytest.raises(InvalidInputError, match=message):
        module(folder)


def test_missing_articles_are_named(tmp_path):
    folder = publish(tmp_path / "w")
    (folder / "texts" / "test3-text.xml").unlink()
    with pytest.raises(InvalidInputError, match=r"test3-text.xml does not exist; unpack the texts again, or remove"):
        module(folder)
    (folder / "texts" / "test3-text.xml").write_text("<page/>")
    with pytest.raises(InvalidInputError, match=r"test3-text.xml has no <text> element"):
        module(folder)
    publish(tmp_path / "v")
    (tmp_path / "v" / "images" / "art" / "train0-image.jpg").unlink()
    with pytest.raises(InvalidInputError, match=r"train0-image.jpg does not exist; unpack the images again"):
        module(tmp_path / "v", cache=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_test": LABELS["test"][:9]}, r"image_test of .*w.npz has shape \(10, 6\) for 9 listed articles"),
        ({"label_test": LABELS["test"] + 1}, "reach 10, but there are 10 classes"),
        ({"label_test": LABELS["test"] - 1}, r"contain -1 in row 29"),
        ({"text_train": np.full((20, 3), np.nan)}, "text features contain NaN or infinity in 20 of 30 rows"),
    ],
)
def test_other_files_are_refused(tmp_path, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        module(npz(tmp_path / "w.npz", **changes))


def test_what_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"absent does not exist; give the folder of the Wikipedia articles or"):
        module(tmp_path / "absent")
    with pytest.raises(InvalidInputError, match=r"absent.npz does not exist; give a file"):
        module(tmp_path / "absent.npz")
    with pytest.raises(InvalidInputError, match="view='sound'; expected one of: image, text"):
        Wiki(Official(), 0, view="sound")


@pytest.mark.data
def test_the_real_pairs(real_data):
    data = module(real_data / "wiki.npz")
    assert [len(data.part(role)) for role in ("train", "query", "database")] == [2173, 693, 2173]
    assert data.feature_dim == {"image": 128, "text": 10}
    assert torch.bincount(data.items.labels).tolist() == [172, 360, 340, 333, 267, 236, 237, 185, 285, 451]
    for view in ("image", "text"):  # histograms and topics
        torch.testing.assert_close(data.items.features.of(view).sum(1), torch.ones(2866), atol=1e-4, rtol=0)


@pytest.mark.data
def test_sizes_of_the_rcmh_paper(real_data, compose_config):
    config = compose_config("data=wiki", "protocol=wiki_rcmh")
    sizes = {name: value for name, value in config.protocol.items() if name != "_target_"}
    data = Wiki(QueryDatabase(**sizes), 0, path=str(real_data / "wiki.npz"))
    data.setup()
    assert {role: len(data.part(role)) for role in ("query", "train", "database")} == {
        "query": 573,
        "train": 574,
        "database": 2293,
    }


def test_its_protocol_is_the_publishers_and_the_command_line_wins(compose_config):
    assert compose_config("data=wiki").choices.protocol == "official"
    assert compose_config("data=wiki", "protocol=five_way_small").choices.protocol == "five_way_small"
    assert compose_config("data=wiki", "data.view=text").data.view == "text"
