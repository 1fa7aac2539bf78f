import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from deephash.command_line.programs.train import train
from deephash.data.descriptors.gist import Gist
from deephash.data.descriptors.pixels import Pixels
from deephash.data.image_folder import ImageFolder
from deephash.data.image_manifest import list_manifest
from deephash.data.protocols.base import Split
from deephash.data.protocols.query_database import QueryDatabase
from deephash.validation import InvalidInputError


def picture(seed, width=20, height=16):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Three images of each of two classes, in several formats and modes."""
    root = tmp_path / "images"
    for name in ("bee/deep", "ape"):
        (root / name).mkdir(parents=True)
    picture(0).save(root / "bee" / "b.png")
    picture(1).save(root / "bee" / "a.JPG")
    picture(2).convert("P").save(root / "bee" / "deep" / "c.gif")
    picture(3).convert("L").save(root / "ape" / "z.bmp")
    picture(4).convert("RGBA").save(root / "ape" / "y.png")
    picture(5, 50, 16).save(root / "ape" / "x.tiff")
    (root / "notes.txt").write_text("not an image")
    return root


ORDER = ["ape/x.tiff", "ape/y.png", "ape/z.bmp", "bee/a.JPG", "bee/b.png", "bee/deep/c.gif"]


def module(path, cache, descriptor=None, **settings):
    return ImageFolder(
        QueryDatabase(queries=1, stratified=False),
        0,
        path=str(path),
        descriptor=descriptor or Pixels(16),
        cache=str(cache),
        **settings,
    )


def load(path, cache, descriptor=None):
    data = module(path, cache, descriptor)
    data.prepare_data()
    data.setup()
    return data.items


def middle(file):
    """The middle 16 × 16 pixels, where an image is 16 pixels high: no scaling is needed."""
    with Image.open(file) as opened:
        image = np.array(opened.convert("RGB"))
    left = (image.shape[1] - 16) // 2
    return image[:, left : left + 16]


def test_class_subfolders_in_the_order_of_their_paths(folder, tmp_path):
    items = load(folder, tmp_path / "cache")
    assert items.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert items.class_names == ("ape", "bee")
    expected = np.stack([middle(folder / name) for name in ORDER])
    assert torch.equal(items.features, Pixels().describe(expected))
    assert items.images.shape == (6, 64, 64, 3)
    assert items.images.dtype == np.uint8


def test_images_are_scaled_to_the_descriptor_and_cropped_in_the_middle(folder, tmp_path):
    items = load(folder, tmp_path / "cache", Gist(image_size=32))
    assert items.features.shape == (6, 512)
    assert items.features.min() >= 0
    assert items.features.std(0).min() > 0


def test_photographs_are_turned_upright(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    upright = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    upright.save(tmp_path / "images" / "a" / "0.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90° clockwise
    upright.rotate(90).save(tmp_path / "images" / "a" / "1.png", exif=turned)
    data = module(tmp_path / "images", tmp_path / "cache")
    assert torch.equal(*data.load().features)


def test_features_are_computed_once_and_again_when_a_file_changes(folder, tmp_path, monkeypatch):
    first = load(folder, tmp_path / "cache")
    monkeypatch.setattr(Pixels, "describe", lambda *_: pytest.fail("computed again"))
    again = load(folder, tmp_path / "cache")
    assert torch.equal(first.features, again.features)
    assert np.array_equal(first.images, again.images)
    shutil.move(folder, tmp_path / "moved")
    assert torch.equal(load(tmp_path / "moved", tmp_path / "cache").features, first.features)
    monkeypatch.undo()
    picture(9).save(tmp_path / "moved" / "bee" / "b.png")
    changed = load(tmp_path / "moved", tmp_path / "cache").features
    assert (changed != first.features).any(1).tolist() == [False, False, False, False, True, False]


def test_a_folder_without_subfolders_has_no_labels(folder, tmp_path):
    items = load(folder / "ape", tmp_path / "cache")
    assert items.labels is None
    assert len(items) == 3


def test_a_manifest_gives_order_and_labels(folder, tmp_path):
    manifest = folder / "list.csv"
    manifest.write_text(f'path,label\nbee/b.png,"two, winged"\n{folder}/ape/z.bmp,other\nape/y.png,other\n')
    items = load(manifest, tmp_path / "cache")
    assert items.class_names == ("other", "two, winged")
    assert items.labels.tolist() == [1, 0, 0]
    expected = np.stack([middle(folder / name) for name in ("bee/b.png", "ape/z.bmp", "ape/y.png")])
    assert torch.equal(items.features, Pixels().describe(expected))
    manifest.write_text("path\nbee/b.png\nape/y.png\nape/z.bmp\n")
    assert load(manifest, tmp_path / "cache").labels is None


FILES = ("bee/b.png", "ape/z.bmp", "ape/y.png")
SEVERAL = [[True, True, False], [False, True, True], [False, False, False]]


@pytest.mark.parametrize(
    ("contents", "settings"),
    [
        ("path,label\n{},sea;sky\n{},sky;sun\n{},\n", {"label_separator": "semicolon"}),
        ('path,labels,width\n{},"sea, sky",9\n{},"sky,sun",9\n{},,9\n', {"label_separator": "comma"}),
        ("path, label, label\n{}, sea, sky\n{}, sky, sun\n{}, ,\n", {}),
        ("path,one,two\n{},sea,sky\n{},sky,sun\n{},,\n", {"labels_key": ["one", "two"]}),
        ("path,sea,sky,sun\n{},1,1,0\n{},0,1,1\n{},0,0,0\n", {}),
        (
            "sea,sky,path,sun,is_new\nTrue,1,{},0.0,1\n0,1.0,{},1,0\n0,0,{},False,0\n",
            {"labels_key": ["sea", "sky", "sun"]},
        ),
    ],
)
def test_a_manifest_gives_several_labels(folder, tmp_path, contents, settings):
    manifest = folder / "list.csv"
    manifest.write_text(contents.format(*FILES))
    data = module(manifest, tmp_path / "cache", **settings)
    items = data.load()
    assert items.class_names == ("sea", "sky", "sun")
    assert items.labels.tolist() == SEVERAL


def test_a_list_without_a_heading_has_a_path_and_the_labels_in_each_line(folder, tmp_path):
    (folder / "bee" / "b.png").rename(folder / "bee" / "a b.png")
    names = ("bee/a b.png", *FILES[1:])
    manifest = folder / "list.txt"
    manifest.write_text("{} 1 1 0\n{} 0 1 1\n\n{} 0 0 0\n".format(*names))
    assert load(manifest, tmp_path / "cache").labels.tolist() == SEVERAL
    manifest.write_text("{} 7\n{} 0\n{} 7\n".format(*names))
    items = load(manifest, tmp_path / "cache")
    assert items.labels.tolist() == [1, 0, 1]
    assert items.class_names == ("0", "7")
    manifest.write_text("{} 1 1 0\n{} 0 1\n{} 0 0 0\n".format(*names))
    with pytest.raises(InvalidInputError, match="in line 2; expected a path and 3 values of 0 or 1, as in line 1"):
        load(manifest, tmp_path / "cache")


def test_a_run_trains_on_images_with_several_labels_and_scores_them(tmp_path, compose_config):
    """A coloured channel for each label, so that items that share none look different."""
    draws = np.random.default_rng(0)
    labels = np.array([0b001, 0b010, 0b100, 0b011, 0b110])[draws.integers(0, 5, 60)]
    rows = ["path,label"]
    for place, label in enumerate(labels):
        shown = [channel for channel in range(3) if label >> channel & 1]
        image = draws.integers(0, 60, (12, 12, 3))
        image[..., shown] += 150
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{place}.png")
        rows.append(f"{place}.png,{' '.join(map(str, shown))}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    settings = (
        "data=image_folder",
        f"data.path={tmp_path / 'list.csv'}",
        f"data.cache={tmp_path}",
        "~data.descriptor",
        "+data.descriptor={_target_:deephash.data.descriptors.pixels.Pixels,image_size:12}",
        "protocol.queries=10",
        "method=itq_cca",
        "bits=2",
        "metrics.at=[10]",
        "figures=false",
        "logger=none",
    )
    with pytest.raises(InvalidInputError, match=r"may be one label or 2; set data.label_separator=space for several"):
        train(compose_config(*settings), tmp_path / "asked")
    row = train(compose_config(*settings, "data.label_separator=space"), tmp_path / "run").row
    table = (labels[:, None] >> np.arange(3) & 1).astype(bool)
    split = Split.load(tmp_path / "run" / "split.npz")
    relevant = table[split.query].astype(int) @ table[split.database].T.astype(int) > 0
    assert row["metrics"]["mAP"] > relevant.mean() + 0.2
    assert row["sizes"] == {"train": 50, "query": 10, "database": 50}


def test_settings_of_manifests_are_refused_where_they_say_nothing(folder, tmp_path):
    for settings in ({"label_separator": "space"}, {"labels_key": "label"}):
        with pytest.raises(InvalidInputError, match=r"apply to manifests, but .*images is a folder; omit them"):
            module(folder, tmp_path / "cache", **settings).load()
    (folder / "list.csv").write_text("path,label\nbee/b.png,x\n")
    with pytest.raises(
        InvalidInputError, match=r"labels_key='kind' occurs 0 times in the header of .*; its columns are: path, label"
    ):
        module(folder / "list.csv", tmp_path / "cache", labels_key="kind").load()


def test_all_unreadable_images_are_counted_and_one_is_named(folder, tmp_path):
    os.truncate(folder / "bee" / "a.JPG", 400)
    (folder / "ape" / "x.tiff").write_bytes(b"no image")
    with pytest.raises(
        InvalidInputError, match=r"2 of 6 images cannot be read, the first .*x.tiff \(.*\); repair or"
    ) as e:
        load(folder, tmp_path / "cache")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("file,label\nbee/b.png,x\n", "has the header 'file,label'; expected 'path,label'"),
        ("", "has the header ''; expected 'path,label'"),
        ("path,label\n", "lists no images; expected a line 'path,label' for each"),
        ("path,label\nbee/b.png,bee\nape/y.png\n", "has no path or no label in row 3; fill it or remove the row"),
        ("path,label\nbee/b.png,x\nbee/q.png,x\nbee/r.png,x\n", r"lists 2 files that do not exist, the first .*q.png"),
        (b"path,label\n\xff\xfe,x\n", r"is not readable as a CSV file in UTF-8"),
        ("path,label\nbee/b.png,cat,dog\n", "has 3 fields in row 2 but 2 in its header; put several labels into one"),
        (
            "path,class\nbee/b.png,x\n",
            "has no column 'label' but the columns class besides 'path'; name the label columns",
        ),
        (
            "path,label\nbee/b.png,x\nape/y.png,x\nbee/b.png,y\n",
            "bee/b.png with different labels in rows 2 and 4; give",
        ),
        ("path,label\nbee/b.png,0 1\nape/y.png,2\n", "contain '0 1' in row 0, which may be one label or 2; set"),
    ],
)
def test_bad_manifests_are_refused(folder, tmp_path, contents, message):
    manifest = folder / "list.csv"
    manifest.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(InvalidInputError, match=message):
        load(manifest, tmp_path / "cache")


def test_bad_folders_are_refused(folder, tmp_path):
    with pytest.raises(InvalidInputError, match="absent is not a folder; give one with a subfolder of images"):
        load(tmp_path / "absent", tmp_path / "cache")
    with pytest.raises(InvalidInputError, match=r"absent.csv does not exist; expected a CSV file"):
        load(tmp_path / "absent.csv", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="empty contains no images"):
        load(tmp_path / "empty", tmp_path / "cache")
    picture(0).save(folder / "loose.png")
    with pytest.raises(InvalidInputError, match=r"contains 1 images outside its class subfolders, the first loose.png"):
        load(folder, tmp_path / "cache")
    with pytest.raises(InvalidInputError, match=r"descriptor.image_size=None; set the side"):
        module(folder, tmp_path / "cache", Gist())
    with pytest.raises(InvalidInputError, match="path=None; give the folder of your images"):
        ImageFolder(QueryDatabase(), 0, path=None, descriptor=Pixels(16))


@pytest.mark.data
def test_real_jpegs_give_the_features_of_their_pixels(cifar10_npz, tmp_path):
    with np.load(cifar10_npz) as stored:
        images, labels = stored["images"][::10000], stored["labels"][::10000]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / str(label) / f"{i}.png")
    items = load(tmp_path / "images", tmp_path / "cache", Gist(image_size=32))
    order = sorted(range(len(labels)), key=lambda i: (str(labels[i]), i))
    torch.testing.assert_close(items.features, Gist().describe(images[order]), atol=1e-6, rtol=0)


def test_an_index_and_ids_beside_paths_are_no_labels(tmp_path):
    picture(0).save(tmp_path / "a.png")
    picture(0).save(tmp_path / "b.png")
    for name in ("", "Unnamed: 0", "id", "ID"):
        (tmp_path / "m.csv").write_text(f"{name},path,x,y\n0,a.png,0,1\n1,b.png,1,1\n")
        listing = list_manifest(tmp_path / "m.csv")
        assert (listing.labels.tolist(), listing.class_names) == ([[False, True], [True, True]], ("x", "y"))


def test_one_image_by_two_spellings_of_its_path_is_one_item(tmp_path):
    picture(0).save(tmp_path / "a.png")
    for again in ("./a.png", "x/../a.png", str(tmp_path / "a.png")):
        (tmp_path / "m.csv").write_text(f"path,label\na.png,cat\n{again},dog\n")
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(InvalidInputError, match="with different labels in rows 2 and 3"):
            list_manifest(tmp_path / "m.csv")
