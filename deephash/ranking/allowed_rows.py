"""Searches among some rows of a database: whether these are copied, and the copy."""

import numpy as np
from numpy.typing import NDArray

# Time to copy a row, in units of a pass of a scan over it for this number of queries.
COPY_COST, QUERIES_OF_PASS = 3, 8


def is_copied(queries: int, count: int, rows: int) -> bool:
    """Return whether a scan of a copy of the allowed rows takes less time than one of all rows with a mask.

    Args:
        queries: number of queries.
        count: number of allowed rows.
        rows: number of all rows.
    """
    passes = -(-queries // QUERIES_OF_PASS)
    return passes * (rows - count) > COPY_COST * count


def take_codes(codes: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return some rows of packed codes (n, B); a row is copied as one value, which is several times faster."""
    width = codes.shape[1]
    kind = np.dtype(np.uint64) if width == 8 and codes.ctypes.data % 8 == 0 else np.dtype((np.void, width))
    taken: NDArray[np.uint8] = codes.view(kind)[:, 0].take(rows).view(np.uint8).reshape(len(rows), width)
    return taken
