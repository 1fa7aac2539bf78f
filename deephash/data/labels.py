"""Labels as users have them, to labels as methods take them."""

import numpy as np
import torch
from torch import Tensor

from deephash.validation import InvalidInputError


def canonical_labels(labels: np.ndarray, rows: int, name: str = "labels") -> tuple[Tensor, tuple[str, ...]]:
    """Number the classes, in ascending or alphabetical order, or read a table of which item has which label.

    Args:
        labels: whole numbers >= 0 or strings (n,) or (n, 1), one class each; or 0 and 1 (n, c), any number of labels
            each, of any dtype.
        rows: the n that is required.
        name: how messages call them.

    Returns:
        Class indices int64 (n,), or an indicator bool (n, c); and the names of the c classes.

    Raises:
        InvalidInputError: another number of rows, dtype or shape, or values that are neither.
    """
    if labels.ndim == 0 or len(labels) != rows:
        raise InvalidInputError(
            f"{name} have {len(labels) if labels.ndim else 'no'} rows; expected {rows}, one for each row of features."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _indicator(labels, name)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InvalidInputError(f"{name} have shape {labels.shape}; expected ({rows},), or ({rows}, c) of 0 and 1.")
    if labels.dtype.kind not in "iubU":
        raise InvalidInputError(
            f"{name} have dtype {labels.dtype}; expected whole numbers or strings: use .astype(int) or .astype(str)."
        )
    if labels.dtype.kind == "i" and rows and labels.min() < 0:
        raise InvalidInputError(
            f"{name} hold {labels.min()} in row {labels.argmin()}; classes are whole numbers from 0 on: drop rows "
            "without a class."
        )
    classes, indices = np.unique(labels, return_inverse=True)
    return torch.from_numpy(indices.astype(np.int64)), tuple(str(each) for each in classes)


def _indicator(labels: np.ndarray, name: str) -> tuple[Tensor, tuple[str, ...]]:
    if labels.dtype.kind not in "iubf":
        raise InvalidInputError(
            f"{name} have dtype {labels.dtype} and shape {labels.shape}; expected (n, c) of 0 and 1."
        )
    wrong = np.argwhere((labels != 0) & (labels != 1))
    if len(wrong):
        row, column = wrong[0]
        raise InvalidInputError(
            f"{name} hold {labels[row, column]} in row {row}, column {column}; several columns are several labels an "
            "item, and hold 0 and 1 only."
        )
    return torch.from_numpy(labels != 0), tuple(str(column) for column in range(labels.shape[1]))
