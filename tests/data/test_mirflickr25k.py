"""MIRFlickr-25k in the publisher's layout, written by the tests for 20 images."""

import numpy as np
import pytest
import torch
from PIL import Image

from deephash.data.descriptors.pixels import Pixels
from deephash.data.mirflickr25k import MIRFlickr25k
from deephash.data.protocols.query_database import QueryDatabase
from deephash.validation import InvalidInputError

RNG = np.random.default_rng(1)
N = 20
COMMON = ["sky", "water", "nikon", "red"]
WIDE = [f"label{i:02}" for i in range(24)]
NARROW = [f"label{i:02}_r1" for i in range(14)]
LABELLED = RNG.random((N, 24)) < 0.08
LABELLED[4] = False
SALIENT = LABELLED[:, :14] & (RNG.random((N, 14)) < 0.5)
TAGGED = RNG.random((N, len(COMMON))) < 0.5
TAGGED[[7, 8]] = False


def publish(folder, images=True):
    tags, annotations = folder / "mirflickr" / "meta" / "tags", folder / "mirflickr25k_annotations_v080"
    for each in (tags, annotations, folder / "mirflickr" / "doc"):
        each.mkdir(parents=True)
    (folder / "mirflickr" / "doc" / "common_tags.txt").write_text("".join(f"{tag} {845}\n" for tag in COMMON))
    (annotations / "README.txt").write_text("what these are")
    for i in range(N):
        own = [tag for tag, has in zip(COMMON, TAGGED[i], strict=True) if has]
        (tags / f"tags{i + 1}.txt").write_text("\r\n".join(["rarelyused", *own]) + "\r\n")
        if images:
            Image.new("RGB", (16, 12), (10 * i, 0, 0)).save(folder / "mirflickr" / f"im{i + 1}.jpg")
    for names, table in ((WIDE, LABELLED), (NARROW, SALIENT)):
        for name, column in zip(names, table.T, strict=True):
            (annotations / f"{name}.txt").write_text("".join(f"{i + 1}\n" for i in np.flatnonzero(column)))
    return folder


def module(path, tmp_path, **parameters):
    settings = {"image_descriptor": Pixels(2), "cache": str(tmp_path / "cache")} | parameters
    data = MIRFlickr25k(QueryDatabase(queries=2, train=4), 0, path=str(path), **settings)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("labels", [24, 38])
def test_images_with_a_common_tag_and_a_label_are_kept(tmp_path, labels):
    items = module(publish(tmp_path / "m"), tmp_path, labels=labels).items
    kept = LABELLED.any(1) & TAGGED.any(1)
    assert 5 < kept.sum() < N - 2
    assert np.array_equal(items.features.of("text").numpy(), TAGGED[kept])
    names = WIDE if labels == 24 else sorted(WIDE + NARROW)
    assert items.class_names == tuple(names)
    table = dict(zip(WIDE + NARROW, np.concatenate([LABELLED, SALIENT], 1).T, strict=True))
    assert np.array_equal(items.labels.numpy(), np.stack([table[name][kept] for name in names], 1))
    red = items.features.of("image")[:, 0] * 255
    assert (red - 10 * torch.from_numpy(np.flatnonzero(kept))).abs().max() < 4
    assert items.images.shape == (kept.sum(), 64, 64, 3)
    assert items.texts[0].split() == [COMMON[i] for i in np.flatnonzero(TAGGED[kept][0])]


def test_features_of_another_kind_instead(tmp_path):
    features = RNG.random((N, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", features)
    given = {"image_features": str(tmp_path / "x.npy"), "image_descriptor": None}
    items = module(publish(tmp_path / "m", images=False), tmp_path, **given).items
    kept = LABELLED.any(1) & TAGGED.any(1)
    assert np.array_equal(items.features.of("image").numpy(), features[kept])
    assert items.images is None
    items = module(tmp_path / "m", tmp_path, view="text").items  # needs no images either
    assert items.features.shape == (kept.sum(), 4)
    np.save(tmp_path / "x.npy", features[:9])
    with pytest.raises(InvalidInputError, match=r"x.npy has 9 rows and .* tags of 20 images; give features of all"):
        module(tmp_path / "m", tmp_path, **given)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "mirflickr/doc/common_tags.txt").unlink(),
            "common_tags.txt cannot be read .*the layout is mirfl",
        ),
        (lambda f: (f / "mirflickr25k_annotations_v080/label03.txt").unlink(), "has 23 labels, not 24; the layout is"),
        (
            lambda f: (f / "mirflickr25k_annotations_v080/label03.txt").write_text("x\n"),
            "label03.txt contains 'x'; expected",
        ),
        (lambda f: (f / "mirflickr/im1.jpg").unlink(), "im1.jpg does not exist; unpack the images again"),
        (
            lambda f: (f / "mirflickr/meta/tags/tagsx.txt").write_text(""),
            "tagsx.txt is not named tagsNUMBER; remove it",
        ),
        (lambda f: (f / "mirflickr/im1.jpg").write_bytes(b"x"), r"1 of \d+ images cannot be read, the first .*im1.jpg"),
    ],
)
def test_other_folders_are_refused(tmp_path, spoil, message):
    folder = publish(tmp_path / "m")
    assert LABELLED[0].any()
    assert TAGGED[0].any()
    spoil(folder)
    with pytest.raises(InvalidInputError, match=message):
        module(folder, tmp_path)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"path": None}, r"path=None; give the folder of MIRFlickr: data.path=FOLDER with mirflickr/im1.jpg"),
        ({"labels": 14}, "labels=14; expected 24, or 38"),
        ({"view": "tags"}, "view='tags'; expected one of: image, text"),
        ({"image_descriptor": None}, "image_descriptor=None and image_features=None; give one of them"),
    ],
)
def test_settings_are_checked(parameters, message):
    with pytest.raises(InvalidInputError, match=message):
        MIRFlickr25k(QueryDatabase(), 0, **({"path": "m", "image_descriptor": Pixels(2)} | parameters))


def test_a_folder_without_tags(tmp_path):
    folder = publish(tmp_path / "m")
    for file in (folder / "mirflickr/meta/tags").iterdir():
        file.unlink()
    with pytest.raises(InvalidInputError, match="contains no tags; the layout is"):
        module(folder, tmp_path)
