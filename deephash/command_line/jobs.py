"""The jobs of `train` and `evaluate`: resuming, printing, and the score for sweepers."""

import logging
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from deephash.command_line.run_command import get_output_folder, is_optimising, load_resumed
from deephash.io.progress import show_waiting
from deephash.io.run_folder import RunFolder
from deephash.report.tables import replace_nonfinite

if TYPE_CHECKING:
    from deephash.training.dataset_cache import DatasetCache

log = logging.getLogger(__name__)


def train_job(config: DictConfig) -> float | None:
    """Train, print the result, and return the mAP to sweepers, which must choose by validation queries.

    Raises:
        InvalidInputError: settings are invalid.
        SystemExit: an optimising sweeper uses test queries.
    """
    with show_waiting("Loading Lightning"):
        from deephash.report.summary import format_title, print_summary
        from deephash.training.run import train

    chooses = is_optimising()
    if chooses and config.score != "validation":
        # This is not a failed trial: the whole search is invalid and ends here.
        print(
            f"error: score={config.score} with an optimising sweeper would choose hyper-parameters on test queries; "
            "set score=validation with a protocol that has validation parts, such as protocol=five_way.",
            file=sys.stderr,
        )
        sys.exit(2)
    if config.resume:
        config = load_resumed(config, RunFolder(Path(config.resume)).read_config())
    sweeps = HydraConfig.get().mode is RunMode.MULTIRUN
    result = train(config, get_output_folder(), get_sweep_cache() if sweeps else None)
    if sweeps:
        # The table is printed at the end of the sweep.
        log.info("%s: mAP %.4f  %s", format_title(result.row), result.row["metrics"]["mAP"], result.folder)
    elif _is_first_process():
        print_summary(result.row, result.folder)
    return float(result.row["metrics"]["mAP"]) if chooses else None


@cache
def get_sweep_cache() -> "DatasetCache":
    """Return the cache that the jobs of a sweep in this process share."""
    from deephash.training.dataset_cache import DatasetCache

    return DatasetCache()


def evaluate_job(config: DictConfig) -> None:
    """Score a saved run again, print the result, and report whether an unchanged run has the same metrics.

    Raises:
        InvalidInputError: settings or files are invalid.
    """
    with show_waiting("Loading Lightning"):
        from deephash.report.summary import print_summary
        from deephash.training.evaluate_run import evaluate

    result, stored = evaluate(config, get_output_folder())
    if not _is_first_process():
        return
    print_summary(result.row, result.folder)
    if stored is None:
        return
    differing = describe_differences(stored["metrics"], result.row["metrics"])
    if differing:
        print(f"The saved run has other figures: {differing}", file=sys.stderr)
        sys.exit(1)
    print("The figures are those of the saved run, exactly.")


def describe_differences(stored: dict[str, Any], now: dict[str, Any]) -> str:
    """Describe the metrics that differ between two rows; empty if none do."""
    now = replace_nonfinite(now)
    differing = [name for name in stored if name in now and stored[name] != now[name]]
    return ", ".join(f"{name} {stored[name]!r} then, {now[name]!r} now" for name in differing)


def _is_first_process() -> bool:
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0
