"""The training job: from a config to a run folder with a fitted hasher and its scores."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deephash.evaluation.learnt_codes import DATABASE_CODES, LEARNT
from deephash.io.instantiation import build
from deephash.io.path_settings import make_paths_absolute
from deephash.io.run_folder import FIT_SECONDS, RunFolder
from deephash.training.base import Runner, runner_class
from deephash.training.building import check_encoders, fetch_encoders
from deephash.training.dataset_cache import DatasetCache
from deephash.training.early_checks import check_measures
from deephash.validation import InvalidInputError, check_bits, check_choice

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Args:
        row: result row, as in `metrics.json`.
        folder: folder of the run.
    """

    row: dict[str, Any]
    folder: Path


def train(config: DictConfig, folder: Path, cache: DatasetCache | None = None) -> RunResult:
    """Carry out a run, or continue an interrupted one.

    Args:
        config: as `conf/train.yaml` composes it. `train._target_` names the runner.
        folder: folder of the run. If it holds a complete run of this config, the result is returned at once.
        cache: data of earlier runs of this process, for the runs of a sweep; None reads everything.

    Raises:
        InvalidInputError: settings, data or files are invalid.
    """
    check_settings(config)
    config = make_paths_absolute(config)
    run = RunFolder(folder)
    run.open(config)
    if run.is_complete:
        log.info("%s holds this run, complete; nothing to do.", folder)
        return RunResult(run.read_row(), folder)
    if not any((place / FIT_SECONDS).exists() for place in (run.start, run.hasher)):
        fetch_encoders(config)
    runner: Runner = build(config.train)
    return RunResult(runner.run(config, run, cache or DatasetCache()), folder)


def check_settings(config: DictConfig) -> None:
    """Raise an error for settings that are invalid whatever the data.

    Raises:
        InvalidInputError: the message names the setting.
    """
    check_bits(config.bits)
    if isinstance(config.seed, bool) or not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise InvalidInputError(f"seed={config.seed!r}; expected a whole number from 0 to {2**32 - 1}.")
    check_choice(config.score, ("test", "validation"), "score")
    check_measures(config)
    check_encoders(config)
    check_choice(config.metrics.database_codes, DATABASE_CODES, "metrics.database_codes")
    if config.metrics.database_codes == LEARNT and runner_class(config).minimises_loss:
        raise InvalidInputError(
            f"metrics.database_codes={LEARNT} ranks by what the fit learnt, which joint training leaves behind; choose "
            "train=fit."
        )
