"""What Lightning says that is true and nothing to act on, left unsaid."""

import warnings

import torch

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


class quiet_lightning(warnings.catch_warnings):  # noqa: N801 - a context manager, used as a word
    """Silence what Lightning says of loops without gradients and workers, and nothing else."""

    def __enter__(self) -> None:
        super().__enter__()
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        torch.set_warn_always(False)
