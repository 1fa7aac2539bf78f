"""Suppression of Lightning's messages and warnings that need no action."""

import logging
import warnings

import torch

# Warnings about loops without gradients, without workers, resumed after an interruption, or with frozen networks.
QUIET = (
    "`LightningModule.configure_optimizers` returned `None`",
    ".*does not have many workers.*",
    "Checkpoint directory .* exists and is not empty.*",
    ".*GPU available but not used.*",
    ".*You defined a `validation_step` but have no `val_dataloader`.*",
    "Found .* in eval mode at the start of training.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


class quiet_lightning(warnings.catch_warnings):  # noqa: N801 - a context manager
    """Context manager that suppresses only Lightning's warnings about loops without gradients or workers."""

    def __enter__(self) -> None:
        super().__enter__()
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        torch.set_warn_always(False)


def hide_announcements() -> None:
    """Hide the messages about devices and products that Lightning logs at each start; warnings are still logged."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
