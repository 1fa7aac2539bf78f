"""Codes of the database of a run."""

from pathlib import Path

import numpy as np
from torch import Tensor

from deephash.code_files.index_codes import HasherInfo
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.io.run_folder import RunFolder
from deephash.training.run_data import read_run_data
from deephash.validation import InvalidInputError


def encode_run_database(folder: Path) -> tuple[Tensor, np.ndarray, HasherInfo]:
    """Encode the database of a run; return codes, ids and a description of the hasher.

    Args:
        folder: folder of the run.

    Raises:
        InvalidInputError: the run is not complete, or it has two views, which must be encoded separately.
    """
    hasher, run = load(folder), RunFolder(folder)
    if not isinstance(hasher, Hasher):
        raise InvalidInputError(f"{folder} has two views; encode one with deephash encode --view, and index its codes.")
    part = read_run_data(run, run.read_config()).part("database")
    return hasher.encode(part.features), part.ids.numpy(), HasherInfo(hasher.identity, hasher.bits, hasher.distance)
