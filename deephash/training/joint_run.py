"""Joint training as a part of a run: its trainer, its files, where it goes on, and which epoch is kept."""

import sys
from typing import Any

import lightning
import torch
from hydra.utils import get_class, instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.data.batches import EpochBatches
from deephash.hashers.loading import load
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.io.sealed_files import write_sealed_json
from deephash.training.building import build_augmentation, build_loss, lightning_trainer
from deephash.training.checkpoint import SafetensorsCheckpoint, latest
from deephash.training.constraints import plain_hasher
from deephash.training.early_checks import check_figure
from deephash.training.fit_module import FitModule
from deephash.training.joint_module import JointModule
from deephash.training.keep_best import KeepBest
from deephash.training.quiet_lightning import quiet_lightning
from deephash.validation import InvalidInputError, check_count

# Settings of `train` for the run around the training.
RUNNER_SETTINGS = ("select_by", "patience", "validate_every", "holdout", "compile")


def learns_jointly(config: DictConfig) -> bool:
    """Whether joint training follows the fit."""
    return issubclass(get_class(config.train._target_), JointModule)


def train_jointly(
    config: DictConfig, run: RunFolder, logger: Logger | None, start: FitModule, data: HashingDataModule
) -> None:
    """Train a fitted hasher end to end, or go on where a training was interrupted, and save the best of it.

    Args:
        config: the run's.
        run: where the training's state, its history and the best hasher go.
        logger: what losses and validation scores go to; None for nothing but the history.
        start: fitted.
        data: set up.
    """
    joint = build_joint(config, start, data)
    joint.failed_batch = run.path / "failed_batch.json"
    choose = config.train.select_by is not None
    # A checkpoint of Lightning's is a pickle; this one is not.
    checkpoints = ModelCheckpoint(
        run.checkpoint.parent, run.checkpoint.stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    checkpoints.FILE_EXTENSION = run.checkpoint.suffix
    callbacks: list[lightning.Callback] = [checkpoints]
    if choose:
        settings = (config.train.select_by, config.train.patience)
        callbacks.insert(0, KeepBest(run.best, run.history, *settings))
    own = config.trainer.get("callbacks") or []
    goes_on = latest(run.checkpoint)
    training = lightning_trainer(
        config,
        logger=logger or False,
        default_root_dir=str(run.path),
        enable_progress_bar=sys.stderr.isatty(),
        max_epochs=joint.epochs,
        check_val_every_n_epoch=largest_divisor(joint.epochs, config.train.validate_every),
        # The start is scored before the first step, and a training that goes on has its score.
        num_sanity_val_steps=-1 if choose and not goes_on else 0,
        limit_val_batches=1.0 if choose else 0,
        enable_checkpointing=True,
        callbacks=[*(instantiate(callback) for callback in own), *callbacks],
        plugins=[SafetensorsCheckpoint()],
    )
    module: Any = torch.compile(joint) if config.train.compile else joint
    with quiet_lightning(), data.batched(lambda rank, processes: joint.training_batches(data, rank, processes)):
        training.fit(
            module,
            datamodule=data,
            ckpt_path=str(goes_on) if goes_on else None,
        )
    last = None if choose else plain_hasher(joint.hasher)  # Which takes all processes, where they share the weights.
    if training.is_global_zero:
        best = last or load(run.best)
        best.save(run.hasher)
        write_sealed_json(run.fit_seconds, {"fit": start.seconds["fit"], "joint": joint.seconds["joint"]})
    training.strategy.barrier()


def largest_divisor(epochs: int, at_most: int) -> int:
    """The largest number of epochs between validations with which the last epoch is validated too.

    Raises:
        InvalidInputError: a number below 1.
    """
    check_count(at_most, "train.validate_every")
    check_count(epochs, "train.epochs")
    return max(step for step in range(1, min(at_most, epochs) + 1) if epochs % step == 0)


def chosen_epoch(history: dict[str, Any]) -> dict[str, Any]:
    """Which epoch was kept, of how many, and the validation score there and at the start."""
    metric, epochs = history["metric"], history["epochs"]
    scores = {entry["epoch"]: entry["validation"][metric] for entry in epochs}
    best = history["best_epoch"]
    return {"metric": metric, "start": scores[0], "best": scores[best], "best_epoch": best, "epochs": max(scores)}


def check_joint(config: DictConfig, start: FitModule, data: HashingDataModule) -> None:
    """Refuse before the fit what joint training would refuse after it: its settings, losses, trainer, and choice.

    Args:
        config: of a run with joint training.
        start: not yet fitted, its depths lowered.
        data: set up, with what is held out.

    Raises:
        InvalidInputError: naming the setting.
    """
    with torch.random.fork_rng(devices=[]):  # Weights that are drawn here are not those that are trained.
        # The longest codes are known once they are fitted; no loss refuses a length.
        joint = new_joint(config, start, data, config.bits)
    rows = torch.from_numpy(data.ids("train"))
    labels = None if data.items.labels is None else data.items.labels[rows]
    joint.check_losses(labels)
    EpochBatches(len(rows), joint.batch_size, joint.seed, 0, 1, joint.order, labels)
    try:
        joint.optimizer([torch.nn.Parameter(torch.zeros(1))])
        joint.schedule(0.5)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"train.optimizer or train.schedule: {error}; see conf/train/joint.yaml.") from error
    largest_divisor(joint.epochs, config.train.validate_every)
    if config.train.patience is not None:
        check_count(config.train.patience, "train.patience")
    if config.train.select_by is not None:
        check_figure(config.train.select_by, "train.select_by", start, data)
    own = [instantiate(callback) for callback in config.trainer.get("callbacks") or []]
    lightning_trainer(config, logger=False, max_epochs=1, callbacks=own, plugins=[SafetensorsCheckpoint()])


def build_joint(config: DictConfig, start: FitModule, data: HashingDataModule) -> JointModule:
    """The Lightning module of joint training, from a fitted hasher, ready for its first step."""
    joint = new_joint(config, start, data, start.hasher.distance.maximum)
    joint.share_truth(start)
    joint.prepare(data)
    return joint


def new_joint(config: DictConfig, start: FitModule, data: HashingDataModule, code_length: int) -> JointModule:
    """The Lightning module of joint training before anything of it is ready.

    Args:
        config: the run's.
        start: with the hasher to train.
        data: set up.
        code_length: largest distance of the codes.
    """
    settings = OmegaConf.masked_copy(config.train, [key for key in config.train if key not in RUNNER_SETTINGS])
    hasher = start.hasher
    sizes = {
        "code_length": code_length,
        "projections": hasher.projection.output_dim,
        "classes": data.classes,
        "input_dim": hasher.input_dim,
        "generator": torch.Generator().manual_seed(config.seed),
    }
    searched = len(data.ids("validation_database")) if data.has_validation else 0
    joint: JointModule = build(
        settings,
        hasher=hasher,
        truth=start.truth,
        supervision=start.supervision,
        ranking=start.ranking,
        at=[depth for depth in start.at if depth <= searched],
        radii=start.radii,
        user_metrics=[metric for metric in start.user_metrics if metric.depth <= searched],
        loss=build_loss(config, sizes),
        augmentation=build_augmentation(config.get("augmentation"), data.feature_dim),
        seed=config.seed,
    )
    return joint
