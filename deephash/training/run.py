"""The main job: from a config to a run folder with a fitted hasher and its figures."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Split
from deephash.data.protocols.query_database import QueryDatabase
from deephash.evaluation.hashing_module import HashingModule
from deephash.evaluation.learnt_codes import DATABASE_CODES, LEARNT, check_trained_on, load_learnt
from deephash.evaluation.run_report import log_report, write_report
from deephash.hashers.loading import load as load_hasher
from deephash.io.files import reading, write_json
from deephash.io.path_settings import with_absolute_paths
from deephash.io.progress import waiting
from deephash.io.run_folder import FIT_SECONDS, RunFolder
from deephash.io.sealed_files import read_sealed_json, write_sealed_json
from deephash.report.drawing import save_figure
from deephash.report.learning_curve import draw_learning_curve
from deephash.report.summary import format_title
from deephash.report.tables import replace_nonfinite
from deephash.training.building import (
    build_data,
    build_module,
    build_trainer,
    check_encoders,
    chosen_losses,
    fetch_encoders,
    lightning_trainer,
)
from deephash.training.dataset_cache import DatasetCache
from deephash.training.early_checks import check_labelled, check_measures, check_scoring
from deephash.training.environment import describe_environment
from deephash.training.fit_module import FitModule
from deephash.training.joint_run import check_joint, chosen_epoch, learns_jointly, train_jointly
from deephash.training.quiet_lightning import quiet_lightning
from deephash.training.stream_run import learns_from_stream, train_stream
from deephash.training.tuning import tune, with_values
from deephash.validation import InvalidInputError, check_bits, check_choice

log = logging.getLogger(__name__)

MANY_ITEMS = 50_000
"""Items from which a fit says that a sample may do."""

SAMPLE_ITEMS = 20_000
"""The sample that it names; docs/data.md has what it costs and saves."""


@dataclass(frozen=True)
class RunResult:
    """What a run gives.

    Args:
        row: the result row, as in `metrics.json`.
        folder: where the run's files are.
    """

    row: dict[str, Any]
    folder: Path


def train(config: DictConfig, folder: Path, kept: DatasetCache | None = None) -> RunResult:
    """Carry out a run, or go on with it where it was interrupted.

    Args:
        config: as `conf/train.yaml` composes it.
        folder: where the run's files go. A folder that holds a complete run of this config gives its result at once.
        kept: what earlier runs of this process read and found, for runs of a sweep; None reads all again.

    Returns:
        The result row and the folder.

    Raises:
        InvalidInputError: settings, data or files that cannot be used.
    """
    check_settings(config)
    config = with_absolute_paths(config)
    run = RunFolder(folder)
    run.open(config)
    if run.is_complete:
        log.info("%s holds this run, complete; nothing to do.", folder)
        return RunResult(run.read_row(), folder)
    if not any((place / FIT_SECONDS).exists() for place in (run.start, run.hasher)):
        fetch_encoders(config)

    if learns_from_stream(config):
        return RunResult(train_stream(config, run, kept or DatasetCache()), folder)

    # Lightning introduces itself and the devices at each start; warnings and errors still come through.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    if config.trainer.get("accelerator") not in ("auto", "cpu"):
        lightning_trainer(config, logger=False, callbacks=None)  # Whether there is such a device, before data are read.
    data = build_data(config, Split.load(run.split) if run.split.exists() else None)
    check_labelled(config, data.are_labelled())  # Reading can mean describing thousands of images.
    kept = kept or DatasetCache()
    kept.read(config, data)
    check_labelled(config, data.items.labels is not None)
    if config.metrics.database_codes == LEARNT:
        check_trained_on(data, score_roles(config)[1])
    # Before the trainer, so that what cannot be built is refused before a logger starts.
    module = build_module(config, data)
    trainer = build_trainer(config, folder)
    if learns_jointly(config) and config.train.select_by is not None and not data.has_validation:
        data.hold_out(config.train.holdout)
        log.info("train=joint: %d training items held out to choose by", data.held_out)
    check_scoring(config, data, module, score_roles(config))
    if learns_jointly(config):
        check_joint(config, module, data)
    if trainer.is_global_zero and not run.split.exists():
        data.split.save(run.split)
    known_relevance, tuned = kept.relevance(config, data), {}
    if config.get("tune"):
        tuned = tune(config, run, data, known_relevance, trainer.strategy.root_device, trainer.is_global_zero)
        config = with_values(config, tuned)
        module = build_module(config, data)
        check_scoring(config, data, module, score_roles(config))
    module.known_relevance = known_relevance
    if learns_jointly(config):
        if not run.fit_seconds.exists():
            fit(run.start, trainer, module, data)
            train_jointly(config, run, trainer.logger, module, data)
        load(run.hasher, module)
    else:
        fit(run.hasher, trainer, module, data)
    row = score(config, trainer, module, data)
    history = read_sealed_json(run.history, "a training's history") if run.history.exists() else None
    if history:
        with reading(run.history, "a training's history"):
            row["training"] = chosen_epoch(history)
    if tuned:
        row["tuned"] = tuned
    if trainer.is_global_zero:
        write_json(folder / "environment.json", describe_environment())
        figures = config.get("figures", True)
        diagnostics = write_report(row, module, data, folder, score_roles(config), figures)
        if figures and history:
            save_figure(draw_learning_curve(history, format_title(row)), folder / "learning_curve.png")
        log_report(trainer.logger, row, module, diagnostics, folder)
        run.write_row(replace_nonfinite(row))
    return RunResult(row, folder)


def fit(folder: Path, trainer: lightning.Trainer, module: FitModule, data: HashingDataModule) -> None:
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
    log.info("fitting on %s", fit_size(data))
    module.fit_truth(data)
    with quiet_lightning(), waiting("Fitting"):
        # The loader alone: a fit in closed form has nothing to validate between its steps.
        trainer.fit(module, train_dataloaders=data.train_dataloader())
    if trainer.is_global_zero:
        module.hasher.save(folder)
        if module.learnt is not None:
            module.learnt.save(folder)
        write_sealed_json(folder / FIT_SECONDS, {"fit": module.seconds["fit"]})


def fit_size(data: HashingDataModule) -> str:
    """On how many items a fit is, in words; of many, how it can be on fewer."""
    items = len(data.ids("train"))
    words = f"{items:,} items of {data.feature_dim} dimensions"
    if items > MANY_ITEMS and isinstance(data.protocol, QueryDatabase):
        words += f"; protocol.train={SAMPLE_ITEMS} fits on a sample of them, in less time and for a little less mAP"
    return words


def load(folder: Path, module: FitModule) -> None:
    """Load the hasher that a folder holds, and how long it took."""
    module.hasher, module.learnt = load_hasher(folder), load_learnt(folder)
    stored = read_sealed_json(folder / FIT_SECONDS, "the seconds of a fit")
    with reading(folder / FIT_SECONDS, "the seconds of a fit"):
        module.seconds |= {name: float(seconds) for name, seconds in stored.items()}


def score(
    config: DictConfig, trainer: lightning.Trainer, module: HashingModule, data: HashingDataModule
) -> dict[str, Any]:
    """Rank and measure; the result row."""
    loop = trainer.validate if config.score == "validation" else trainer.test
    with quiet_lightning():
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
        "database_codes": config.metrics.database_codes,
        "k": list(module.at),
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
    """Raise an error for wrong settings, as far as they show before any data are read.

    Raises:
        InvalidInputError: naming the setting.
    """
    check_bits(config.bits)
    if isinstance(config.seed, bool) or not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise InvalidInputError(f"seed={config.seed!r}; expected a whole number from 0 to {2**32 - 1}.")
    check_choice(config.score, ("test", "validation"), "score")
    check_measures(config)
    check_encoders(config)
    check_choice(config.metrics.database_codes, DATABASE_CODES, "metrics.database_codes")
    if config.metrics.database_codes == LEARNT and learns_jointly(config):
        raise InvalidInputError(
            f"metrics.database_codes={LEARNT} ranks by what the fit learnt, which joint training leaves behind; choose "
            "train=fit."
        )
