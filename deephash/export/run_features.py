"""Features of a run's own data, to try a program on."""

from pathlib import Path

import torch
from torch import Tensor

from deephash.data.views import Views
from deephash.io.run_folder import RunFolder


def run_features(run: Path, view: str = "", rows: int = 2_048) -> Tensor:
    """Features of items spread evenly over a run's data, float32 (at most `rows`, d).

    Args:
        run: folder of the run.
        view: of data in two views.
        rows: the most.

    Raises:
        InvalidInputError: no run there, or data that cannot be read.
    """
    from deephash.training.run_data import read_run_data

    stored = RunFolder(run)
    features = read_run_data(stored, stored.read_config()).items.features
    own = features.of(view) if isinstance(features, Views) else features
    places = torch.linspace(0, len(own) - 1, min(rows, len(own))).long()
    return own[places].float()
