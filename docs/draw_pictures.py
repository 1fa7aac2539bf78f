"""Draw the pictures of the gallery: the bits of each method and quantiser on a plane.

python docs/draw_pictures.py                 every picture that is missing
python docs/draw_pictures.py itq npq         these pictures, drawn again
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from deephash.affinity.label import Label
from deephash.command_line.programs.train import train
from deephash.command_line.run_command import register_resolvers
from deephash.hashers.hasher import Hasher
from deephash.report.bit_regions import crescents, draw_bit_regions
from deephash.report.drawing import save_figure
from deephash.training.base import get_runner_class
from deephash.training.building import build_hasher
from deephash.validation import InvalidInputError

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
ITEMS = 300
# Enough for the shape of the crescents. By default, each of the few points would be an anchor.
ANCHORS = 40
# Code lengths, the longest first: a plane has only two principal components.
BITS = (4, 2)


def list_settings() -> dict[str, list[str]]:
    """Return the settings of the hasher of each picture, by the name of the picture."""
    methods = {
        path.stem: [f"method={path.stem}"]
        for path in sorted((ROOT / "conf" / "method").glob("*.yaml"))
        # Methods of two views have no regions in the plane, which is one view.
        if "deephash.projections.paired." not in path.read_text(encoding="utf-8")
    }
    quantizers = sorted(path.stem for path in (ROOT / "conf" / "quantizer").glob("*.yaml"))
    return methods | {name: ["method=pcah", f"quantizer={name}"] for name in quantizers}


def fit_hasher(settings: list[str]) -> Hasher:
    """Fit a hasher with these settings on the crescents and their labels, with the longest code that it can give."""
    features, labels = crescents(ITEMS)
    for bits in BITS:
        try:
            config = _compose(*settings, f"bits={bits}")
            if get_runner_class(config).minimises_loss:
                return train_hasher(settings, features, labels)
            if "anchors" in config.projection:
                config.projection.anchors = ANCHORS
            hasher = build_hasher(config, 2)
            affinity = Label().supervise(features, labels)
            return hasher.fit(features, labels=labels, affinity=affinity, generator=torch.Generator().manual_seed(0))
        except InvalidInputError as error:
            failure = error
    raise failure


def train_hasher(settings: list[str], features: torch.Tensor, labels: torch.Tensor) -> Hasher:
    """Train a hasher with the settings of a deep method on points and their labels; return that of the last epoch."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "features.npy", features.numpy())
        np.save(folder / "labels.npy", labels.numpy())
        data = ["data=arrays", f"data.features={folder / 'features.npy'}", f"data.labels={folder / 'labels.npy'}"]
        # Few points, so small batches make as many steps as larger data have in an epoch.
        schedule = ["train.epochs=100", "train.batch_size=30", "train.select_by=null", "encoder.dropout=0"]
        scoring = ["protocol.queries=30", "metrics.at=[10]", "figures=false", "logger=none", "trainer=cpu"]
        config = _compose(*settings, *data, *schedule, *scoring, f"bits={BITS[0]}", "choices=null")
        config.choices = {}
        return Hasher.load(train(config, folder / "run").folder / "hasher")


def draw(name: str, folder: Path = PICTURES) -> Path:
    """Draw one picture and return its file."""
    features, labels = crescents(ITEMS)
    figure = draw_bit_regions(fit_hasher(list_settings()[name]), features, labels)
    return save_figure(figure, folder / f"{name}.png", resolution=110)


def _compose(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=[*overrides])


if __name__ == "__main__":
    chosen = sys.argv[1:] or [name for name in list_settings() if not (PICTURES / f"{name}.png").exists()]
    for name in chosen:
        print(draw(name).relative_to(ROOT))
