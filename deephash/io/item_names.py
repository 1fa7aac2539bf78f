"""What items are called: whole numbers that int64 holds, or words."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deephash.validation import InvalidInputError

MAX_WHOLE = (1 << 63) - 1
"""The largest whole number of a name: int64's."""


def as_names(values: ArrayLike, name: str, size: int | None = None) -> NDArray[Any]:
    """Names as an array, each kept exactly.

    Args:
        values: whole numbers or words (n,): an array, a list, a column of a frame.
        name: how messages call them.
        size: the n that is required; None takes any.

    Returns:
        int64 or words (n,).

    Raises:
        InvalidInputError: another shape, neither whole numbers nor words, some of both, or one beyond int64.
    """
    # NumPy makes words of a list of numbers and words, and floats of one with a number beyond int64.
    array = np.asarray(values, object) if isinstance(values, list | tuple) else np.asarray(values)
    fits = array.ndim == 1 and size in (None, len(array))
    if fits and array.dtype.kind in "iu":
        return as_int64(array, name)
    if fits and array.dtype.kind == "U":
        return array
    if fits and array.dtype.kind in "OT" and len(array):
        if all(isinstance(each, str) for each in array):
            return np.array(array.tolist(), np.str_)
        if all(isinstance(each, int | np.integer) and not isinstance(each, bool) for each in array):
            for extreme in (min(array), max(array)):
                check_whole_name(int(extreme), name)
            return array.astype(np.int64)
    items = "item" if size is None else f"of the {size} items"
    raise InvalidInputError(
        f"{name} are {array.dtype} {array.shape}; expected a whole number or a word for each {items}, not some of both."
    )


def as_int64(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Whole numbers as int64, of which none wraps around.

    Args:
        values: of an integer dtype, of any shape.
        name: how the message calls them.

    Raises:
        InvalidInputError: one beyond int64, as uint64 holds.
    """
    if values.dtype.kind == "u" and values.size:
        check_whole_name(int(values.max()), name)
    return values.astype(np.int64)


def check_whole_name(value: int, name: str) -> None:
    """Raise an error for a whole number that int64 does not hold.

    Raises:
        InvalidInputError: naming it and the range.
    """
    if not -MAX_WHOLE - 1 <= value <= MAX_WHOLE:
        raise InvalidInputError(
            f"{name} hold {value}; whole numbers go from {-MAX_WHOLE - 1} to {MAX_WHOLE} (int64): give them as words, "
            "as by .astype(str)."
        )
