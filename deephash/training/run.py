"""The main job: from a config to a run folder with a fitted hasher and its figures."""

import inspect
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.encoders.base import Encoder
from deephash.files import read_json, write_json
from deephash.hasher import Hasher
from deephash.losses.weighted_sum import WeightedSum
from deephash.protocols.base import Split
from deephash.quantizers.base import Quantizer
from deephash.report.drawing import save_figure
from deephash.report.learning_curve import learning_curve_figure
from deephash.report.summary import result_title
from deephash.report.tables import finite
from deephash.run_folder import FIT_SECONDS, RunFolder
from deephash.training.checkpoint import SafetensorsCheckpoint
from deephash.training.closed_form import ClosedForm
from deephash.training.environment import describe_environment
from deephash.training.hashing_module import HashingModule
from deephash.training.joint import Joint, plain_hasher
from deephash.training.keep_best import KeepBest
from deephash.training.kept_data import KeptData
from deephash.training.run_report import log_report, write_report
from deephash.training.tuning import tune, with_values
from deephash.validation import InvalidInputError, check_bits, check_choice, check_count

log = logging.getLogger(__name__)

# Settings of `train` for the run around the training.
RUNNER_SETTINGS = ("select_by", "patience", "validate_every", "holdout", "compile")
HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")
# What Lightning says of loops that learn nothing by gradient, read from memory and go on where they were interrupted;
# true, and nothing to act on.
QUIET = (
    "`LightningModule.configure_optimizers` returned `None`",
    ".*does not have many workers.*",
    "Checkpoint directory .* exists and is not empty.*",
    ".*GPU available but not used.*",
    ".*You defined a `validation_step` but have no `val_dataloader`.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


@dataclass(frozen=True)
class RunResult:
    """What a run gives.

    Args:
        row: the result row, as in `metrics.json`.
        folder: where the run's files are.
    """

    row: dict[str, Any]
    folder: Path


def train(config: DictConfig, folder: Path, kept: KeptData | None = None) -> RunResult:
    """Carry out a run, or go on with it where it was interrupted.

    Args:
        config: as `conf/train.yaml` composes it.
        folder: where the run's files go. A folder that holds a complete run of this config gives its result at once.
        kept: what earlier runs of this process read and found, for runs of a sweep; None reads all anew.

    Returns:
        The result row and the folder.

    Raises:
        InvalidInputError: settings, data or files that cannot be used.
    """
    check_settings(config)
    run = RunFolder(folder)
    run.open(config)
    if run.is_complete:
        log.info("%s holds this run, complete; nothing to do.", folder)
        return RunResult(read_json(run.metrics, "a result row"), folder)

    # Lightning introduces itself and the devices at each start; warnings and errors still come through.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config, Split.load(run.split) if run.split.exists() else None)
    kept = kept or KeptData()
    kept.read(config, data)
    # Before the trainer, so that what cannot be built is refused before a logger starts.
    module = build_module(config, data)
    trainer = build_trainer(config, folder)
    if learns_jointly(config) and config.train.select_by is not None and not data.has_validation:
        data.hold_out(config.train.holdout)
        log.info("train=joint: %d training items held out to choose by", data.held_out)
    if trainer.is_global_zero and not run.split.exists():
        data.split.save(run.split)
    known_relevance, tuned = kept.relevance(config, data), {}
    if config.get("tune"):
        tuned = tune(config, run, data, known_relevance, trainer.strategy.root_device, trainer.is_global_zero)
        config = with_values(config, tuned)
        module = build_module(config, data)
    module.known_relevance = known_relevance
    if learns_jointly(config):
        if not run.fit_seconds.exists():
            fit(run.start, trainer, module, data)
            train_jointly(config, run, trainer.logger, module, data)
        load(run.hasher, module)
    else:
        fit(run.hasher, trainer, module, data)
    row = score(config, trainer, module, data)
    if run.history.exists():
        row["training"] = chosen_epoch(read_json(run.history, "a training's history"))
    if tuned:
        row["tuned"] = tuned
    if trainer.is_global_zero:
        write_json(folder / "environment.json", describe_environment())
        figures = config.get("figures", True)
        diagnostics = write_report(row, module, data, folder, score_roles(config), figures)
        if figures and run.history.exists():
            history = read_json(run.history, "a training's history")
            save_figure(learning_curve_figure(history, result_title(row)), folder / "learning_curve.png")
        log_report(trainer.logger, row, module, diagnostics, folder)
        write_json(run.metrics, finite(row))
    return RunResult(row, folder)


def learns_jointly(config: DictConfig) -> bool:
    """Whether joint training follows the fit."""
    return isinstance(get_object(config.train._target_), type) and issubclass(get_object(config.train._target_), Joint)


def fit(folder: Path, trainer: lightning.Trainer, module: ClosedForm, data: HashingDataModule) -> None:
    """Fit a hasher by its papers' algorithms, or load the one that a folder holds already.

    Args:
        folder: where the hasher goes.
        trainer: of one epoch.
        module: unfitted.
        data: set up.
    """
    if (folder / FIT_SECONDS).exists():
        load(folder, module)
        return
    module.fit_truth(data)
    with quiet():
        # The loader alone: a fit in closed form has nothing to validate between its steps.
        trainer.fit(module, train_dataloaders=data.train_dataloader())
    if trainer.is_global_zero:
        module.hasher.save(folder)
        write_json(folder / FIT_SECONDS, {"fit": module.seconds["fit"]})


def load(folder: Path, module: ClosedForm) -> None:
    """Load the hasher that a folder holds, and how long it took."""
    module.hasher = Hasher.load(folder)
    module.seconds.update(read_json(folder / FIT_SECONDS, "the seconds of a fit"))


def train_jointly(
    config: DictConfig, run: RunFolder, logger: Logger | None, start: ClosedForm, data: HashingDataModule
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
    goes_on = run.checkpoint.exists()
    training = build(
        config.trainer,
        logger=logger or False,
        default_root_dir=str(run.path),
        enable_progress_bar=sys.stderr.isatty(),
        max_epochs=config.train.epochs,
        check_val_every_n_epoch=largest_divisor(config.train.epochs, config.train.validate_every),
        # The start is scored before the first step, and a training that goes on has its score.
        num_sanity_val_steps=-1 if choose and not goes_on else 0,
        limit_val_batches=1.0 if choose else 0,
        enable_checkpointing=True,
        callbacks=[*(instantiate(callback) for callback in own), *callbacks],
        plugins=[SafetensorsCheckpoint()],
    )
    module = torch.compile(joint) if config.train.compile else joint
    with quiet(), data.batched(lambda rank, processes: joint.training_batches(data, rank, processes)):
        training.fit(
            module,
            datamodule=data,
            ckpt_path=str(run.checkpoint) if goes_on else None,
        )
    if training.is_global_zero:
        best = Hasher.load(run.best) if choose else plain_hasher(joint.hasher)
        best.save(run.hasher)
        # The time of the last part alone, where the training was interrupted.
        write_json(run.fit_seconds, {"fit": start.seconds["fit"], "joint": joint.seconds["joint"]})
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


def score(
    config: DictConfig, trainer: lightning.Trainer, module: HashingModule, data: HashingDataModule
) -> dict[str, Any]:
    """Rank and measure; the result row."""
    loop = trainer.validate if config.score == "validation" else trainer.test
    with quiet():
        loop(module, datamodule=data, verbose=False)
    results = dict(module.results)
    skipped = int(results.pop("skipped_queries"))
    roles = ("train", *score_roles(config))
    return {
        **OmegaConf.to_container(config.choices, resolve=True),  # type: ignore[dict-item]
        # Hydra names one choice of a group, and losses add up.
        "loss": "+".join(chosen_losses(config)) if learns_jointly(config) else None,
        "bits": config.bits,
        "score": config.score,
        "k": list(config.metrics.at),
        "seed": config.seed,
        "split": data.split.hash,
        "sizes": {role: len(data.ids(role)) for role in roles},
        "feature_dim": data.feature_dim,
        "metrics": results,
        "skipped_queries": skipped,
        "seconds": module.seconds,
    }


def score_roles(config: DictConfig) -> tuple[str, str]:
    """The roles that are ranked: queries, and what they are ranked against."""
    return ("validation_query", "validation_database") if config.score == "validation" else ("query", "database")


def check_settings(config: DictConfig) -> None:
    """Refuse settings that can be judged before any data are read.

    Raises:
        InvalidInputError: naming the setting.
    """
    check_bits(config.bits)
    if isinstance(config.seed, bool) or not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise InvalidInputError(f"seed={config.seed!r}; expected a whole number from 0 to {2**32 - 1}.")
    check_choice(config.score, ("test", "validation"), "score")


def build(config: DictConfig, **parts: Any) -> Any:
    """Build what a config's `_target_` names from its settings, and from parts that are objects already.

    Raises:
        InvalidInputError: a setting that the target does not have, or one that it misses.
    """
    settings = [str(name) for name in config if name not in (*HYDRA_KEYS, *parts)]
    try:
        inspect.signature(get_object(config._target_)).bind(**dict.fromkeys(settings), **parts)
    except TypeError as error:
        raise InvalidInputError(f"{config._target_} {error}; see its YAML for the settings it has.") from error
    # Hydra would turn parts that are dataclasses into configs, so they are given after it.
    return instantiate(config, _partial_=True)(**parts)


def build_data(config: DictConfig, split: Split | None = None) -> HashingDataModule:
    """The data module, with its protocol; `split` is one made before."""
    data: HashingDataModule = build(config.data, protocol=build(config.protocol), seed=config.seed, split=split)
    return data


def build_hasher(config: DictConfig, feature_dim: int) -> Hasher:
    """Quantiser first: it says how many projections its bit budget needs."""
    quantizer: Quantizer = build(config.quantizer, bits=config.bits)
    encoder: Encoder = build(config.encoder, input_dim=feature_dim)
    projection = build(config.projection, input_dim=encoder.output_dim, output_dim=quantizer.projection_dim)
    return Hasher(projection, quantizer, encoder)


def build_module(config: DictConfig, data: HashingDataModule) -> ClosedForm:
    """The Lightning module that fits and scores."""
    module = ClosedForm(
        hasher=build_hasher(config, data.feature_dim),
        truth=build(config.truth),
        supervision=build(config.supervision) if config.get("supervision") else None,
        ranking=build(config.ranking),
        at=list(config.metrics.at),
        radii=list(config.metrics.radii),
        stable_order=config.metrics.stable_order,
        seed=config.seed,
    )
    return module


def build_joint(config: DictConfig, start: ClosedForm, data: HashingDataModule) -> Joint:
    """The Lightning module of joint training, from a fitted hasher, ready for its first step."""
    settings = OmegaConf.masked_copy(config.train, [key for key in config.train if key not in RUNNER_SETTINGS])
    hasher = start.hasher
    joint: Joint = build(
        settings,
        hasher=hasher,
        truth=start.truth,
        supervision=start.supervision,
        ranking=start.ranking,
        at=[depth for depth in start.at if depth <= len(data.ids("validation_database"))]
        if data.has_validation
        else [],
        radii=start.radii,
        loss=build_loss(config, hasher, data),
        augmentation=build(config.augmentation, input_dim=data.feature_dim) if config.get("augmentation") else None,
        seed=config.seed,
    )
    # A truth that is fitted need not be fitted again.
    joint.known_relevance = start.known_relevance
    joint.fit_truth(data)
    joint.prepare(data)
    return joint


def chosen_losses(config: DictConfig) -> dict[str, Any]:
    """The losses that a config adds up, by name.

    A method's setting of a loss of its own, where another was chosen in its place, names no loss.
    """
    named = {str(name): entry for name, entry in (config.get("loss") or {}).items() if entry is not None}
    return {name: entry for name, entry in named.items() if "_target_" in entry}


def build_loss(config: DictConfig, hasher: Hasher, data: HashingDataModule) -> WeightedSum:
    """The losses that a config adds up, with the sizes that those with weights of their own take."""
    entries = chosen_losses(config)
    sizes = {
        "code_length": hasher.distance.maximum,
        "projections": hasher.projection.output_dim,
        "classes": data.classes,
        "input_dim": hasher.input_dim,
        "generator": torch.Generator().manual_seed(config.seed),
    }
    losses, weights = {}, {}
    for name, entry in entries.items():
        weights[name] = entry.get("weight", 1.0)
        settings = OmegaConf.masked_copy(entry, [key for key in entry if key != "weight"])
        takes = inspect.signature(get_object(entry._target_)).parameters
        if "classes" in takes and data.classes == 0:
            raise InvalidInputError(
                f"loss={name} learns from labels, and the data have none; choose one of pairs, as loss=ap."
            )
        losses[name] = build(settings, **{size: value for size, value in sizes.items() if size in takes})
    return WeightedSum(losses, weights)


def build_trainer(config: DictConfig, folder: Path) -> lightning.Trainer:
    """The trainer, with its logger; bars are shown on terminals alone."""
    settings = OmegaConf.to_container(config, resolve=True)
    logger = build(config.logger, save_dir=str(folder), settings=settings)
    trainer: lightning.Trainer = build(
        config.trainer,
        logger=logger or False,
        default_root_dir=str(folder),
        enable_progress_bar=sys.stderr.isatty(),
        # What is set for training by gradient has no place in a fit of one step, nor in scoring.
        max_epochs=1,
        accumulate_grad_batches=1,
        gradient_clip_val=None,
        precision="32-true",
        callbacks=None,
    )
    return trainer


class quiet(warnings.catch_warnings):  # noqa: N801 - a context manager, used as a word
    """Silence what Lightning says of loops without gradients and workers, and nothing else."""

    def __enter__(self) -> None:
        super().__enter__()
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        torch.set_warn_always(False)
