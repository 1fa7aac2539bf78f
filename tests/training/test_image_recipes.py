"""The recipes of deep hashing from pixels compose with both networks, and run for a step on a small tree of images."""

import numpy as np
import pytest
import torch
from PIL import Image

from deephash.command_line.programs.train import train
from deephash.data.mnist5k import MNIST5k
from deephash.data.protocols.query_database import QueryDatabase
from deephash.training.building import build_augmentation, build_hasher, build_loss

DEPTHS = {"imagenet100": 1000, "nuswide_21": 5000, "coco": 5000}
CLASSES = {"imagenet100": 100, "nuswide_21": 21, "coco": 80}


@pytest.fixture(scope="module")
def digits():
    """Real digits as files in memory order: pixels and classes of 64 of them."""
    data = MNIST5k(QueryDatabase(queries=500))
    data.setup()
    rows = np.random.default_rng(0).permutation(5000)[:64]
    return data.items.images[rows], data.items.labels.numpy()[rows]


@pytest.fixture
def tree(tmp_path, digits):
    """A published split of 8 queries and 56 searched images, of which 32 are trained on."""

    def write(classes, several):
        (tmp_path / "images").mkdir()
        lines = []
        for row, (image, digit) in enumerate(zip(*digits, strict=True)):
            Image.fromarray(image).resize((40, 36)).save(tmp_path / "images" / f"{row}.jpg")
            flags = np.zeros(classes, int)
            flags[digit] = 1
            flags[10 + row % 3] |= several
            lines.append(f"images/{row}.jpg {' '.join(map(str, flags))}")
        for name, part in (("test", lines[:8]), ("train", lines[8:40]), ("database", lines[8:])):
            (tmp_path / f"{name}.txt").write_text("\n".join(part))
        return tmp_path

    return write


@pytest.mark.parametrize("encoder", ["resnet50", "alexnet"])
@pytest.mark.parametrize("data", DEPTHS)
def test_recipes_compose(data, encoder, compose_config):
    config = compose_config(f"experiment=deep_{data}", f"encoder={encoder}")
    assert config.encoder.network == encoder
    alone = compose_config(f"experiment=deep_{data}")
    assert (alone.choices.method, alone.choices.encoder) == ("csq", "resnet50")
    assert config.encoder.weights == "IMAGENET1K_V1"
    assert config.choices.data == data
    assert list(config.metrics.at) == [DEPTHS[data]]
    assert config.metrics.stable_order
    assert config.train.optimizer._target_ == "torch.optim.Adam"
    assert config.data.descriptor.image_size == 224
    assert config.augmentation.shift == 16
    # The optimiser of the recipe builds, and losses of 16 to 64 bits have codewords for all classes.
    sizes = {"projections": 64, "classes": CLASSES[data], "input_dim": 3 * 224**2, "generator": torch.Generator()}
    for bits in (16, 64):
        build_loss(config, {**sizes, "code_length": bits})
    if encoder == "resnet50" and data == "coco":
        hasher = build_hasher(config, 3 * 224**2)
        assert hasher.encoder.output_dim == 2048


def test_dhd_takes_weak_and_strong_changes_of_images(compose_config):
    config = compose_config("experiment=deep_imagenet100", "method=dhd", "augmentation=weak_and_strong_images")
    assert list(config.loss) == ["dhd"]
    augmentation = build_augmentation(config.augmentation, 3 * 224**2)
    images = torch.rand(4, 3 * 224**2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    weak, strong = augmentation.change(images), augmentation.change_second(images)
    # Weak changes move pixels; strong ones replace some 18 % of them by the mean as well.
    assert weak.unique().numel() > 1.05 * strong.unique().numel()


@pytest.mark.parametrize(
    ("data", "method", "several"), [("imagenet100", "csq", 0), ("nuswide_21", "hashnet", 1), ("coco", "orthohash", 1)]
)
def test_recipes_run_for_a_step(tmp_path, tree, compose_config, data, method, several):
    root = tree(CLASSES[data], several)
    config = compose_config(
        f"experiment=deep_{data}",
        f"method={method}",
        "encoder=resnet50",
        f"data.root={root}",
        # A network of the same family of torchvision that takes seconds, from random weights.
        "encoder.network=shufflenet_v2_x0_5",
        "encoder.weights=null",
        "encoder.image_size=32",
        "data.descriptor.image_size=32",
        "data.descriptor.resize=36",
        "augmentation.shift=2",
        "train.epochs=1",
        "train.batch_size=32",
        "trainer=cpu",
        "bits=16",
    )
    row = train(config, tmp_path / "run").row
    assert row["sizes"] == {"train": 32, "query": 8, "database": 56}
    assert row["images_per_second"]["joint"] > 0
    assert 0 < row["metrics"]["mAP"] <= 1
    assert (tmp_path / "run" / "hasher" / "weights.safetensors").is_file()
