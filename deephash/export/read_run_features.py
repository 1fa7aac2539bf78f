"""Features of a run's data, to check an exported program on."""

from pathlib import Path

import torch
from torch import Tensor

from deephash.data.views import Views
from deephash.io.run_folder import RunFolder


def read_run_features(run: Path, view: str = "", rows: int = 2_048) -> Tensor:
    """Read features of items spread evenly over a run's data, float32 (at most `rows`, d).

    Args:
        run: folder of the run.
        view: view to read, if the data has two.
        rows: maximum number of rows.

    Raises:
        InvalidInputError: the folder contains no run, or its data cannot be read.
    """
    from deephash.training.run_data import read_run_data

    stored = RunFolder(run)
    features: Tensor | Views = read_run_data(stored, stored.read_config()).items.features
    if isinstance(features, Views):
        features = features.of(view)
    places = torch.linspace(0, len(features) - 1, min(rows, len(features))).long()
    chosen: Tensor = features[places].float()
    return chosen
