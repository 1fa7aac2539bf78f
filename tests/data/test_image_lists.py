"""Lists of images in HashNet's layout: what they give, how pixels are streamed, and what is refused."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from deephash.command_line.programs.train import train
from deephash.data import image_lists, streamed_images
from deephash.data.descriptors.pixels import Pixels
from deephash.data.file_rows import read_features
from deephash.data.image_decoding import read_image
from deephash.data.image_folder import ImageFolder
from deephash.data.image_list_files import read_list
from deephash.data.image_lists import ImageLists
from deephash.data.mnist5k import MNIST5k
from deephash.data.protocols.official import Official
from deephash.data.protocols.query_database import QueryDatabase
from deephash.data.streamed_images import ImageFiles, PixelRows, Thumbnails
from deephash.report.summary import print_summary
from deephash.training.evaluate_run import evaluate
from deephash.validation import InvalidInputError

QUERIES, TRAINED, ITEMS = 12, 30, 72


@pytest.fixture(scope="module")
def digits():
    """Real digits, 24 of each of three classes: pixels uint8 (72, 28, 28) and classes."""
    data = MNIST5k(QueryDatabase(queries=500))
    data.setup()
    rows = np.concatenate([np.flatnonzero(data.items.labels.numpy() == digit)[:24] for digit in (0, 1, 7)])
    order = np.random.default_rng(0).permutation(ITEMS)
    return data.items.images[rows][order], np.repeat(np.arange(3), 24)[order]


def lines_of(classes, several=False):
    tables = np.eye(3, dtype=int)[classes]
    if several:
        tables[:, 2] |= np.arange(len(classes)) % 2
    return [f"images/{row}.png {' '.join(map(str, flags))}" for row, flags in enumerate(tables)]


def write_lists(folder, lines, ends="\n"):
    """A published split: the first items are queries, the next are trained on and searched."""
    folder.mkdir(exist_ok=True)
    parts = {"test": lines[:QUERIES], "train": lines[QUERIES : QUERIES + TRAINED], "database": lines[QUERIES:]}
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text(ends.join(part) + ends, newline="")


@pytest.fixture
def tree(tmp_path, digits):
    images, classes = digits
    (tmp_path / "images").mkdir()
    for row, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{row}.png")
    write_lists(tmp_path, lines_of(classes))
    return tmp_path


def module(root, **settings):
    settings = {"descriptor": Pixels(28), "cache": str(root / "cache"), **settings}
    return ImageLists(Official(), 0, root=str(root), **settings)


def load(root, **settings):
    data = module(root, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_parts_labels_and_pixels(tree, digits):
    images, classes = digits
    data = load(tree)
    order = np.r_[QUERIES : QUERIES + TRAINED, :QUERIES, QUERIES + TRAINED : ITEMS]
    assert data.items.labels.tolist() == classes[order].tolist()
    assert isinstance(data.items.features, PixelRows)
    assert torch.equal(data.items.features[:], Pixels().describe(np.repeat(images[order][..., None], 3, -1)))
    assert len(data.ids("train")) == TRAINED
    assert len(data.ids("query")) == QUERIES
    assert len(data.ids("database")) == ITEMS - QUERIES
    assert set(data.ids("train")) < set(data.ids("database"))
    assert data.items.images[3].shape == (64, 64, 3)
    assert data.items.images[np.array([1, 2])].shape == (2, 64, 64, 3)


def test_training_images_may_stay_out_of_the_database(tree, digits):
    lines = lines_of(digits[1])
    (tree / "database.txt").write_text("\n".join(lines[QUERIES + TRAINED :]))
    data = load(tree)
    assert not set(data.ids("train")) & set(data.ids("database"))
    assert len(data.ids("database")) == ITEMS - QUERIES - TRAINED


def test_validation_items_leave_the_training_part_and_the_database(tree):
    data = ImageLists(
        Official(validation_queries=6, validation_database=9), 0, root=str(tree), descriptor=Pixels(28), cache=str(tree)
    )
    data.prepare_data()
    data.setup()
    assert len(data.ids("train")) == TRAINED - 15
    assert len(data.ids("database")) == ITEMS - QUERIES - 15


def test_several_labels_are_an_indicator(tree, digits):
    write_lists(tree, lines_of(digits[1], several=True))
    labels = load(tree).items.labels
    assert labels.dtype == torch.bool
    assert labels.shape == (ITEMS, 3)
    assert int(labels[:, 2].sum()) > 24


@pytest.mark.parametrize("kind", ["crlf", "bom", "tabs", "blank lines", "spaces", "dots"])
def test_harmless_differences_of_files(tree, digits, kind):
    expected = load(tree).items
    pixels = expected.features[:]
    lines = lines_of(digits[1])
    if kind == "spaces":
        (tree / "images").rename(tree / "my images 1")
        lines = [line.replace("images/", "my images 1/") for line in lines]
    if kind == "tabs":
        lines = [line.replace(" ", "\t") for line in lines]
    if kind == "dots":
        lines = [f"./images/../{line} " for line in lines]
    write_lists(tree, lines, {"crlf": "\r\n", "blank lines": "\n\n \n"}.get(kind, "\n"))
    if kind == "bom":
        for file in tree.glob("*.txt"):
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    items = load(tree).items
    assert torch.equal(items.labels, expected.labels)
    assert torch.equal(items.features[:], pixels)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/5.png 0 1", "train.txt has 2 values of 0 or 1 in line 2 .*; expected 3, one for each class"),
        ("images/5.png 0 1 0 0", "has 4 values of 0 or 1 in line 2 .*; expected 3"),
        ("images/5.png", "has 0 values of 0 or 1 in line 2 .*; expected 3"),
        ("images/5.png 0 2 0", "has the value '2' in line 2; expected 0 or 1 for each of 3 classes"),
        ("images/5.png 0 1.0 0", r"has the value '1\.0' in line 2; expected 0 or 1"),
        ("0 1 0", "has no path in line 2"),
        ("images/5.png 0 0 0", "gives images/5.png no label in line 2: all values are 0"),
        ("images/./13.png 1 0 0", r"lists images/\./13\.png in line 1 and again in line 2"),
        ("../5.png 0 1 0", r"lists \.\./5\.png in line 2, which is outside the root"),
        ("/images/5.png 0 1 0", r"lists /images/5\.png in line 2, which is outside the root"),
    ],
)
def test_malformed_lines_are_named(tree, line, message):
    (tree / "train.txt").write_text(f"images/13.png 0 1 0\n{line}\n")
    with pytest.raises(InvalidInputError, match=message):
        module(tree, classes=3).prepare_data()


def test_number_of_classes(tree):
    with pytest.raises(InvalidInputError, match=r"has 3 values .* in line 1 .*; expected 4, one for each"):
        module(tree, classes=4).prepare_data()
    (tree / "test.txt").write_text("images/0.png 0 1\n")
    with pytest.raises(InvalidInputError, match=r"test\.txt has 2 values .* in line 1 .*; expected 3"):
        module(tree).prepare_data()
    (tree / "empty.txt").write_text("\n")
    with pytest.raises(InvalidInputError, match=r"empty\.txt lists no images; expected lines such as"):
        read_list(tree / "empty.txt")
    (tree / "latin.txt").write_bytes(b"\xe9t\xe9.png 0 1\n")
    with pytest.raises(InvalidInputError, match=r"latin\.txt is not readable as a list of images in UTF-8"):
        read_list(tree / "latin.txt")


def test_missing_files_are_named_before_anything_is_read(tree, monkeypatch):
    monkeypatch.setattr(streamed_images, "read_image", None)
    (tree / "images" / "20.png").unlink()
    (tree / "images" / "60.png").unlink()
    with pytest.raises(
        InvalidInputError, match=r"2 of the 72 listed images do not exist, the first .*20\.png \(line 9 of"
    ):
        module(tree).prepare_data()
    with pytest.raises(InvalidInputError, match=r"data\.root=.*nowhere is not a folder"):
        module(tree / "nowhere", lists=str(tree)).prepare_data()
    (tree / "database.txt").unlink()
    (tree / "test.txt").unlink()
    with pytest.raises(InvalidInputError, match=r"has no test\.txt and no database\.txt; put the lists"):
        module(tree).prepare_data()
    with pytest.raises(InvalidInputError, match="root=''; give the folder of the images"):
        ImageLists(Official(), root="", descriptor=Pixels(28))


def test_overlaps(tree, digits):
    lines = lines_of(digits[1])
    for name, reason in (("database", "they would find themselves"), ("train", "would have learnt their labels")):
        write_lists(tree, lines)
        with (tree / f"{name}.txt").open("a") as file:
            file.write(lines[4])
        with pytest.raises(InvalidInputError, match=rf"lists 1 of the 12 images of test\.txt, the first .*{reason}"):
            module(tree).prepare_data()
    write_lists(tree, lines)
    wrong = lines[QUERIES].rsplit(maxsplit=3)[0] + " 1 1 1"
    (tree / "train.txt").write_text("\n".join([wrong, *lines[QUERIES + 1 : 30]]))
    with pytest.raises(
        InvalidInputError, match=r"\(line 1\) and database\.txt \(line 1\) give images/12\.png different"
    ):
        module(tree).prepare_data()


def test_sizes_that_differ_from_the_published_are_told(tree, caplog):
    caplog.set_level(logging.INFO)
    load(tree, sizes={"train": 30, "test": 5000, "database": 60})
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "test.txt lists 12 images; the published list has 5,000" in warning
    assert "30 of 30 training images are in the database too" in caplog.text


def test_rows_are_decoded_in_blocks_and_never_all(tree, digits, monkeypatch):
    data = load(tree)
    rows, whole = data.items.features, data.items.features[:]
    counts = []
    read = ImageFiles.read
    monkeypatch.setattr(ImageFiles, "read", lambda self, rows: counts.append(len(rows)) or read(self, rows))
    monkeypatch.setattr(PixelRows, "block_images", 10)
    places = torch.tensor([5, 71, 0, 5])
    assert torch.equal(rows[places], whole[places])
    assert torch.equal(rows[3:9], whole[3:9])
    assert torch.equal(rows[7], whole[7])
    assert torch.equal(rows.select(places)[1:], whole[places[1:]])
    assert torch.equal(read_features(rows.select(places).select(torch.tensor([2]))), whole[[0]])
    assert rows[4:4].shape == (0, 3 * 28 * 28)
    counts.clear()
    blocks = list(rows.blocks(8192))
    assert torch.equal(torch.cat(blocks).float() / 255, whole)
    assert max(counts) == 10
    assert blocks[0].dtype == torch.uint8


def test_a_damaged_image_is_named(tree):
    (tree / "images" / "15.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"15\.png cannot be read"):
        load(tree).items.features[:]


def test_a_square_of_224_of_256_is_cropped(tmp_path):
    pixels = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(64, 48, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    # The shorter side, 48, is kept, and the central 42 pixels of it are cropped.
    assert np.array_equal(read_image(tmp_path / "x.png", 42, resize=48), pixels[11:53, 3:45])
    with pytest.raises(InvalidInputError, match="resize=20 with image_size=28"):
        Pixels(28, 20)


RUN = ("data.classes=3", "bits=8", "metrics.at=[5]", "figures=false", "logger=none")
DEEP = ("encoder=convolutional", "encoder.widths=[4]", "method=csq", "train.epochs=4", "train.select_by=null")


def test_a_run_on_streamed_pixels_is_that_on_pixels_in_memory(tree, compose_config, monkeypatch):
    config = compose_config(
        "data=image_lists",
        f"data.root={tree}",
        f"data.cache={tree / 'cache'}",
        "data.descriptor.image_size=28",
        "data.descriptor.resize=30",
        *RUN,
        *DEEP,
        "train.batch_size=16",
        "augmentation=crop_and_flip",
    )
    streamed = train(config, tree / "streamed").row
    assert set(streamed["images_per_second"]) == {"joint", "encode"}
    monkeypatch.setattr(image_lists, "stream_pixels", lambda *_: None)
    in_memory = train(config, tree / "memory").row
    assert in_memory["metrics"] == streamed["metrics"]
    assert "images_per_second" not in in_memory
    monkeypatch.undo()
    again, stored = evaluate(compose_config(f"run={tree / 'streamed'}", config_name="evaluate"), tree / "again")
    assert again.row["metrics"] == stored["metrics"] == streamed["metrics"]


@pytest.mark.parametrize(
    ("data", "method"), [("image_lists_gist", "itq"), ("image_lists_gist", "ksh"), ("image_lists", "itq")]
)
def test_classical_methods_on_lists(tree, digits, compose_config, data, method):
    write_lists(tree, lines_of(digits[1], several=True))
    pixels = ("data.descriptor.image_size=14", "data.descriptor.resize=14") if data == "image_lists" else ()
    small = ("data.descriptor.image_size=32",) if data != "image_lists" else ()
    kernel = ("projection.anchors=20",) if method == "ksh" else ()
    config = compose_config(
        f"data={data}", f"method={method}", f"data.root={tree}", f"data.cache={tree}", *pixels, *small, *kernel, *RUN
    )
    row = train(config, tree / "run").row
    assert row["sizes"] == {"train": TRAINED, "query": QUERIES, "database": ITEMS - QUERIES}
    assert row["metrics"]["mAP"] > 0.6


@pytest.mark.parametrize(
    ("name", "classes", "depth"),
    [("imagenet100", 100, 1000), ("nuswide_21", 21, 5000), ("nuswide_21_m", 21, 5000), ("coco", 80, 5000)],
)
def test_presets(name, classes, depth, compose_config):
    config = compose_config(f"data={name}", "data.root=x")
    assert config.data.classes == classes
    assert set(config.data.sizes) == {"train", "test", "database"}
    assert list(config.metrics.at) == [depth]
    assert config.published.figure == f"mAP@{depth}/hits"
    assert config.metrics.stable_order is True
    assert config.choices.protocol == "official"
    assert list(compose_config(f"data={name}", "metrics.at=[7]").metrics.at) == [7]
    assert list(compose_config("data=mnist5k").metrics.at) == [100, 1000]


def test_the_published_figure_is_reported(tree, compose_config, capsys):
    config = compose_config(
        "data=coco",
        f"data.root={tree}",
        "data.descriptor.image_size=14",
        "data.descriptor.resize=14",
        *RUN,
        "method=lsh",
    )
    config.published.figure = "mAP@5/hits"
    row = train(config, tree / "run").row
    assert row["published_figure"] == "mAP@5/hits"
    assert {"mAP@5/hits", "mAP_stable@5/hits"} <= set(row["metrics"])
    print_summary(row, tree / "run")
    assert "mAP@5/hits" in capsys.readouterr().out


def test_a_large_folder_is_streamed_too(tree, monkeypatch, tmp_path):
    def folder():
        data = ImageFolder(
            QueryDatabase(queries=9), 0, path=str(tree / "images"), descriptor=Pixels(28), cache=str(tmp_path / "cache")
        )
        data.prepare_data()
        data.setup()
        return data.items

    small = folder()
    assert isinstance(small.features, torch.Tensor)
    monkeypatch.setattr("deephash.data.image_folder.MAX_PIXEL_BYTES", 1000)
    large = folder()
    assert isinstance(large.features, PixelRows)
    assert isinstance(large.images, Thumbnails)
    assert torch.equal(large.features[:], small.features)
    assert large.images[5].shape == small.images[5].shape
    assert large.digests == small.digests
