"""Labels as indicators, one column per class, as regression targets of supervised methods."""

import torch
from torch import Tensor

from deephash.functional.row_shares import concatenate_rows, max_over_processes

# Above this many class indices, they are replaced by their ranks if fewer than half of them occur.
MAX_SPARSE_CLASSES = 256


def label_indicators(labels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return 1 where an item has a label and 0 elsewhere.

    Args:
        labels: class indices int64 (n,), or bool (n, c).
        dtype: dtype of the result.

    Returns:
        (n, c); c is one more than the largest class index of all processes' rows, or the number of columns. If class
        indices are large and few of them occur, as with customer numbers, c is the number of indices that occur.
    """
    if labels.ndim == 2:
        return labels.to(dtype)
    classes = int(max_over_processes(labels.max() + 1 if len(labels) else labels.new_zeros(())))
    if classes > MAX_SPARSE_CLASSES:
        present = concatenate_rows(labels.unique()).unique()  # type: ignore[no-untyped-call]
        if classes > 2 * len(present):
            labels, classes = torch.searchsorted(present, labels), len(present)
    indicators = torch.zeros(len(labels), classes, dtype=dtype, device=labels.device)
    return indicators.scatter_(1, labels[:, None], 1)
