"""Fit a hasher and score it: `deephash train method=itq bits=64`; `deephash train --help` lists the choices.

Hydra names a job and its log file after the file of the decorated function. Lightning and sweep launchers run this file
in further processes. Lightning is imported when a job starts, so that help and errors in overrides do not wait for it.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from deephash.command_line.programs.overrides import explain_other_mode, run_hydra
from deephash.io.configuration import find_configuration_folder
from deephash.io.path_settings import make_paths_absolute
from deephash.io.progress import show_waiting
from deephash.io.run_folder import FIT_SECONDS, RunFolder

with show_waiting("Loading torch"):
    from deephash.command_line.plugins import register_plugins
    from deephash.command_line.run_command import (
        get_output_folder,
        get_overrides,
        is_first_process,
        is_optimising,
        load_resumed,
        register_resolvers,
        reporting_errors,
    )

if TYPE_CHECKING:
    from deephash.training.base import Runner, RunResult
    from deephash.training.dataset_cache import DatasetCache

log = logging.getLogger(__name__)

register_resolvers()
register_plugins()


@hydra.main(version_base="1.3", config_path=find_configuration_folder(), config_name="train")
def run_job(config: DictConfig) -> float | None:
    """Run one job, print its result, and return the mAP to optimising sweepers.

    Raises:
        SystemExit: a setting is invalid, or an optimising sweeper uses test queries.
    """
    with reporting_errors():
        with show_waiting("Loading Lightning"):
            from deephash.command_line.nested_losses import add_nested_losses
            from deephash.report.summary import format_title, print_summary
            from deephash.training.dataset_cache import get_sweep_cache
            from deephash.training.encoder_placement import check_head, place_encoder

        if is_optimising() and config.score != "validation":
            # This is not a failed trial: the whole search is invalid and ends here.
            print(
                f"error: score={config.score} with an optimising sweeper would choose hyper-parameters on test "
                "queries; set score=validation with a protocol that has validation parts, such as protocol=five_way.",
                file=sys.stderr,
            )
            sys.exit(2)
        if config.resume:
            config = load_resumed(config, RunFolder(Path(config.resume)).read_config())
        else:
            add_nested_losses(config, get_overrides())
        check_head(place_encoder(config), get_overrides())
        sweeps = HydraConfig.get().mode is RunMode.MULTIRUN
        result = train(config, get_output_folder(), get_sweep_cache() if sweeps else None)
        if sweeps:
            # The table is printed at the end of the sweep.
            log.info("%s: mAP %.4f  %s", format_title(result.row), result.row["metrics"]["mAP"], result.folder)
        elif is_first_process():
            print_summary(result.row, result.folder)
        return float(result.row["metrics"]["mAP"]) if is_optimising() else None
    return None


def train(config: DictConfig, folder: Path, cache: "DatasetCache | None" = None) -> "RunResult":
    """Carry out a run, or continue an interrupted one.

    Args:
        config: config composed from `conf/train.yaml`. `train._target_` names the runner.
        folder: folder of the run. If it contains a complete run of this config, the result is returned at once.
        cache: data of earlier runs of this process, for the runs of a sweep; None reads everything.

    Raises:
        InvalidInputError: settings, data or files are invalid.
    """
    from deephash.io.files import shorten_path
    from deephash.io.instantiation import build
    from deephash.training.base import RunResult
    from deephash.training.building import fetch_encoders
    from deephash.training.dataset_cache import DatasetCache
    from deephash.training.early_checks import check_settings
    from deephash.training.encoder_placement import place_encoder

    config = place_encoder(config)
    check_settings(config)
    config = make_paths_absolute(config)
    run = RunFolder(folder)
    run.open(config)
    if run.is_complete:
        log.info("%s already holds this complete run; nothing to do.", shorten_path(folder))
        return RunResult(run.read_row(), folder)
    if not any((place / FIT_SECONDS).exists() for place in (run.start, run.hasher)):
        fetch_encoders(config)
    runner: Runner = build(config.train)
    return RunResult(runner.run(config, run, cache or DatasetCache()), folder)


def main() -> None:
    """Run the program on the command line."""
    run_hydra(run_job, explain_other_mode)


if __name__ == "__main__":
    main()
