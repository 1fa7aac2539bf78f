"""Fitting a hasher: with a trainer in the folder of a run, or without a trainer on a given device."""

import logging
import time
from pathlib import Path

import lightning
import torch

from deephash.data.base import HashingDataModule
from deephash.data.blocks import move_block, read_whole
from deephash.data.protocols.query_database import QueryDatabase
from deephash.evaluation.learnt_codes import load_learnt
from deephash.hashers.loading import load as load_hasher
from deephash.io.files import reading
from deephash.io.progress import show_waiting
from deephash.io.run_folder import FIT_SECONDS
from deephash.io.sealed_files import read_sealed_json, write_sealed_json
from deephash.training.fit_module import FitModule, FittedHasher
from deephash.training.quiet_lightning import quiet_lightning

log = logging.getLogger(__name__)

MANY_ITEMS = 50_000
"""Number of items above which the log suggests a fit on a sample."""

IMAGES = "images_per_second"
"""Key of the speed of a joint training in the file of its seconds."""

SAMPLE_ITEMS = 20_000
"""Size of the suggested sample; its costs and savings are in docs/data.md."""


def fit_in_folder(folder: Path, trainer: lightning.Trainer, module: FitModule, data: HashingDataModule) -> FittedHasher:
    """Fit a hasher and save it, or load the hasher that the folder holds already.

    Args:
        folder: folder of the hasher.
        trainer: trainer of one epoch.
        module: module of an unfitted hasher.
        data: data module that has been set up.
    """
    if (folder / FIT_SECONDS).exists():
        return load_fitted(folder)
    log.info("fitting on %s", describe_fit_size(data))
    _ = module.truth.definition  # The time to fit the truth does not count towards the method.
    with quiet_lightning(), show_waiting("Fitting"):
        # Only the loader is passed, because a fit in one step has nothing to validate.
        trainer.fit(module, train_dataloaders=data.train_dataloader())
    fitted = module.fitted
    if trainer.is_global_zero:
        fitted.hasher.save(folder)
        if fitted.learnt is not None:
            fitted.learnt.save(folder)
        write_sealed_json(folder / FIT_SECONDS, fitted.seconds)
    return fitted


def fit_on_device(module: FitModule, data: HashingDataModule, device: torch.device) -> FittedHasher:
    """Fit on the training part without a trainer.

    Args:
        module: module of an unfitted hasher.
        data: data module that has been set up.
        device: device of the hasher and of its training items.
    """
    started = time.perf_counter()
    module.to(device).fit_hasher(move_block(read_whole(data.part("train")), device))
    fitted = module.fitted
    fitted.seconds["fit"] = time.perf_counter() - started
    return fitted


def load_fitted(folder: Path) -> FittedHasher:
    """Load the hasher in a folder, with its learnt codes and the seconds of its fit.

    Raises:
        InvalidInputError: a file is damaged.
    """
    stored = read_sealed_json(folder / FIT_SECONDS, "the seconds of a fit")
    with reading(folder / FIT_SECONDS, "the seconds of a fit"):
        seconds = {name: float(value) for name, value in stored.items()}
    images_per_second = seconds.pop(IMAGES, None)
    return FittedHasher(load_hasher(folder), load_learnt(folder), seconds, images_per_second)


def describe_fit_size(data: HashingDataModule) -> str:
    """Describe the number of items of a fit; for many, name the setting that fits on a sample."""
    items = len(data.ids("train"))
    dimension = data.feature_dim
    if isinstance(dimension, dict):
        dimensions = " and ".join(f"{size} ({view})" for view, size in dimension.items())
    else:
        dimensions = str(dimension)
    text = f"{items:,} items of {dimensions} dimensions"
    if items > MANY_ITEMS and isinstance(data.protocol, QueryDatabase):
        text += f"; protocol.train={SAMPLE_ITEMS} fits on a sample of them, in less time and for a little less mAP"
    return text
