"""Loggers by name: each takes the run's folder and its settings, and never asks for anything."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from deephash.validation import InvalidInputError


def wandb(save_dir: str, settings: dict[str, Any], project: str = "deephash", **options: Any) -> Logger | None:
    """W&B: online where a key is at hand, offline otherwise; it never waits for input. One run for all processes.

    Args:
        save_dir: the run's folder.
        settings: the resolved config, logged with the run.
        project: W&B project.
        options: further arguments of `wandb.init`, as `entity` or `tags`.
    """
    import wandb as client

    if _process_rank() != 0:
        return None
    mode: Any = os.environ.get("WANDB_MODE", "online" if has_wandb_key() else "offline")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    # A run that is online says where it can be seen; one that is not has nothing to say.
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
    """Whether W&B finds a key by itself: in WANDB_API_KEY or in the netrc file that `wandb login` writes."""
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
    """Metrics as `csv/metrics.csv` in the run's folder."""
    return CSVLogger(save_dir, name="", version="csv")


def tensorboard(save_dir: str, settings: dict[str, Any]) -> Logger:
    """TensorBoard event files in `tensorboard/` in the run's folder.

    Raises:
        InvalidInputError: where the package is missing.
    """
    try:
        return TensorBoardLogger(save_dir, name="", version="tensorboard", default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            "logger=tensorboard needs the package tensorboard; install it with: pip install 'deephash[tensorboard]'"
        ) from error


def none(save_dir: str, settings: dict[str, Any]) -> None:
    """No logger: the run's folder holds everything anyway."""


def _process_rank() -> int:
    """This process's place among those of a distributed run, known before the trainer starts them."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0) or 0)
