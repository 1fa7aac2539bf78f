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
from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.files import read_json, write_json
from deephash.hasher import Hasher
from deephash.protocols.base import Split
from deephash.quantizers.base import Quantizer
from deephash.report.tables import finite
from deephash.run_folder import RunFolder
from deephash.training.closed_form import ClosedForm
from deephash.training.environment import describe_environment
from deephash.training.hashing_module import HashingModule
from deephash.training.kept_data import KeptData
from deephash.training.run_report import log_report, write_report
from deephash.training.tuning import tune, with_values
from deephash.validation import InvalidInputError, check_bits, check_choice

log = logging.getLogger(__name__)

HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")
# What Lightning says of loops that learn nothing by gradient and read from memory; true, and nothing to act on.
QUIET = (
    "`LightningModule.configure_optimizers` returned `None`",
    ".*does not have many workers.*",
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
    if trainer.is_global_zero and not run.split.exists():
        data.split.save(run.split)
    known_relevance, tuned = kept.relevance(config, data), {}
    if config.get("tune"):
        tuned = tune(config, run, data, known_relevance, trainer.strategy.root_device, trainer.is_global_zero)
        config = with_values(config, tuned)
        module = build_module(config, data)
    module.known_relevance = known_relevance
    if run.fit_seconds.exists():
        module.hasher = Hasher.load(run.hasher)
        module.seconds.update(read_json(run.fit_seconds, "the seconds of a fit"))
    else:
        module.fit_truth(data)
        with quiet():
            # The loader alone: a fit in closed form has nothing to validate between its steps.
            trainer.fit(module, train_dataloaders=data.train_dataloader())
        if trainer.is_global_zero:
            module.hasher.save(run.hasher)
            write_json(run.fit_seconds, {"fit": module.seconds["fit"]})
    row = score(config, trainer, module, data)
    if tuned:
        row["tuned"] = tuned
    if trainer.is_global_zero:
        write_json(folder / "environment.json", describe_environment())
        diagnostics = write_report(row, module, data, folder, score_roles(config), config.get("figures", True))
        log_report(trainer.logger, row, module, diagnostics, folder)
        write_json(run.metrics, finite(row))
    return RunResult(row, folder)


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
        "bits": config.bits,
        "score": config.score,
        "k": list(config.metrics.at),
        "seed": config.seed,
        "split": data.split.hash,
        "sizes": {role: len(data.split.role(role)) for role in roles},
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
    settings = [str(name) for name in config if name not in HYDRA_KEYS]
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
    projection = build(config.projection, input_dim=feature_dim, output_dim=quantizer.projection_dim)
    return Hasher(projection, quantizer)


def build_module(config: DictConfig, data: HashingDataModule) -> ClosedForm:
    """The Lightning module that fits and scores."""
    module: ClosedForm = build(
        config.train,
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


def build_trainer(config: DictConfig, folder: Path) -> lightning.Trainer:
    """The trainer, with its logger; bars are shown on terminals alone."""
    settings = OmegaConf.to_container(config, resolve=True)
    logger = build(config.logger, save_dir=str(folder), settings=settings)
    trainer: lightning.Trainer = build(
        config.trainer,
        logger=logger or False,
        default_root_dir=str(folder),
        enable_progress_bar=sys.stderr.isatty(),
    )
    return trainer


class quiet(warnings.catch_warnings):  # noqa: N801 - a context manager, used as a word
    """Silence what Lightning says of loops without gradients and workers, and nothing else."""

    def __enter__(self) -> None:
        super().__enter__()
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        torch.set_warn_always(False)
