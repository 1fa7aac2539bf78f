"""No method sees a label outside the training part: if all others change, the hasher is the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.utils import get_class

from deephash.command_line.programs.train import train
from deephash.projections.paired.base import PairedProjection

CONF = Path(__file__).resolve().parents[2] / "conf"
# Few steps of what takes long, where its result does not matter.
QUICK = {"quantizer=vbq_soft": ("quantizer.search.steps=5", "quantizer.allocator.steps=10")}
CLASSES, ITEMS, TRAIN = 4, 900, 600


def target_of(path, group):
    """The class that a YAML names itself, or by the first of its `defaults`."""
    config = yaml.safe_load(path.read_text())
    part = config.get("projection", {}) if group == "method" else config
    return part.get("_target_") or target_of(path.parent / f"{config['defaults'][0]}.yaml", group)


def supervised_choices():
    """Every method, and every quantiser, that is fitted from labels or pairs, with the data that it takes."""
    for group in ("method", "quantizer"):
        for path in sorted((CONF / group).glob("*.yaml")):
            target = target_of(path, group)
            if get_class(target).requires:
                data = "paired_arrays" if issubclass(get_class(target), PairedProjection) else "arrays"
                yield pytest.param([f"{group}={path.stem}", f"data={data}"], id=f"{group}={path.stem}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features, a split, labels, and the same labels with those outside the training part changed."""
    folder = tmp_path_factory.mktemp("arrays")
    generator = np.random.default_rng(0)
    labels = generator.integers(CLASSES, size=ITEMS)
    centres = 2 * generator.normal(size=(CLASSES, 16))
    features = (centres[labels] + generator.normal(size=(ITEMS, 16))).astype(np.float32)
    np.save(folder / "features.npy", features)
    np.save(folder / "image.npy", features[:, :12])
    np.save(folder / "text.npy", features[:, 4:])
    np.save(folder / "labels.npy", labels)
    outside = labels.copy()
    outside[TRAIN:] = (labels[TRAIN:] + generator.integers(1, CLASSES, size=ITEMS - TRAIN)) % CLASSES
    np.save(folder / "outside.npy", outside)
    inside = labels.copy()
    inside[:TRAIN] = (labels[:TRAIN] + generator.integers(1, CLASSES, size=TRAIN)) % CLASSES
    np.save(folder / "inside.npy", inside)
    roles = {"train": range(TRAIN), "query": range(TRAIN, TRAIN + 50), "database": range(TRAIN + 50, ITEMS)}
    (folder / "split.json").write_text(json.dumps({role: list(rows) for role, rows in roles.items()}))
    return folder


def hasher_of(settings, labels, folder, run, compose_config):
    paired = "data=paired_arrays" in settings
    features = f"[{folder}/image.npy,{folder}/text.npy]" if paired else f"{folder}/features.npy"
    config = compose_config(
        *settings,
        *QUICK.get(settings[0], ()),
        f"data.features={features}",
        f"data.labels={folder}/{labels}.npy",
        "protocol=given",
        f"protocol.path={folder}/split.json",
        "bits=8",
        "metrics.at=[10]",
        "logger=none",
        "figures=false",
    )
    result = train(config, run / labels)
    stored = json.loads((run / labels / "hasher" / "hasher.json").read_text())
    return stored["identity"], result.row["metrics"]["mAP"]


@pytest.mark.parametrize("settings", list(supervised_choices()))
def test_labels_outside_the_training_part_are_not_seen(settings, folder, tmp_path, compose_config):
    one, score = hasher_of(settings, "labels", folder, tmp_path, compose_config)
    other, changed = hasher_of(settings, "outside", folder, tmp_path, compose_config)
    assert one == other
    assert score != changed, "the labels that score were not changed"
    assert hasher_of(settings, "inside", folder, tmp_path, compose_config)[0] != one, "labels have no part in the fit"
