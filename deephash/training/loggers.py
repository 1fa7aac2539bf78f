"""Loggers by name. Each function takes the folder and the settings of a run, and never waits for input."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from deephash.validation import InvalidInputError


def wandb(save_dir: str, settings: dict[str, Any], project: str = "deephash", **options: Any) -> Logger | None:
    """Create a W&B logger, online if there is a key, offline otherwise; only the first process logs.

    Args:
        save_dir: folder of the run.
        settings: resolved config, logged with the run.
        project: W&B project.
        options: further arguments of `wandb.init`, such as `entity` or `tags`.
    """
    import wandb as client

    if _get_process_rank() != 0:
        return None
    mode: Any = os.environ.get("WANDB_MODE", "online" if has_wandb_key() else "offline")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    # An online run prints its address; an offline run prints nothing.
    run = client.init(
        project=project,
        dir=save_dir,
        mode=mode,
        config=settings,
        settings=client.Settings(silent=mode != "online"),
        **options,
    )
    return WandbLogger(experiment=run)


def has_wandb_key() -> bool:
    """Return whether W&B can find a key, in WANDB_API_KEY or in the netrc file of `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        hosts = netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    base = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return any(host in base for host in hosts)


def csv(save_dir: str, settings: dict[str, Any]) -> Logger:
    """Create a logger that writes metrics to `csv/metrics.csv` in the run's folder."""
    return CSVLogger(save_dir, name="", version="csv")


def tensorboard(save_dir: str, settings: dict[str, Any]) -> Logger:
    """Create a logger that writes TensorBoard event files to `tensorboard/` in the run's folder.

    Raises:
        InvalidInputError: the package is not installed.
    """
    try:
        return TensorBoardLogger(save_dir, name="", version="tensorboard", default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            "logger=tensorboard needs the package tensorboard; install it with: pip install 'deephash[tensorboard]'"
        ) from error


def none(save_dir: str, settings: dict[str, Any]) -> None:
    """Create no logger; the results are in the run's folder in any case."""


def _get_process_rank() -> int:
    """Return the rank of this process, which is known before the trainer starts the others."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0) or 0)
