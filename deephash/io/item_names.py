"""Names of items: int64 numbers or strings."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deephash.validation import InvalidInputError

MAX_WHOLE = (1 << 63) - 1
"""Largest number that can be a name."""


def as_names(values: ArrayLike, name: str, size: int | None = None) -> NDArray[Any]:
    """Convert names to an array without changing any.

    Args:
        values: whole numbers or strings (n,): an array, a list, or a column of a frame.
        name: description of the values in messages.
        size: the required n; None accepts any.

    Returns:
        int64 or strings (n,).

    Raises:
        InvalidInputError: another shape, neither whole numbers nor strings, a mix of both, a number beyond int64, or
            a word that ends with NUL.
    """
    # NumPy turns a list of numbers and strings into strings, and a list with a number beyond int64 into floats.
    array = np.asarray(values, object) if isinstance(values, list | tuple) else np.asarray(values)
    fits = array.ndim == 1 and size in (None, len(array))
    if fits and array.dtype.kind in "iu":
        return as_int64(array, name)
    if fits and array.dtype.kind == "U":
        return array
    if fits and array.dtype.kind in "OT" and len(array):
        if all(isinstance(each, str) for each in array):
            for word in array:
                if word.endswith("\0"):  # NumPy would drop it, so that two names could become one.
                    raise InvalidInputError(f"{name} contain {word!r}, which ends with a NUL; remove that character.")
            return np.array(array.tolist(), np.str_)
        if all(isinstance(each, int | np.integer) and not isinstance(each, bool) for each in array):
            for extreme in (min(array), max(array)):
                check_whole_name(int(extreme), name)
            return array.astype(np.int64)
    items = "item" if size is None else f"of the {size} items"
    raise InvalidInputError(
        f"{name} are {array.dtype} {array.shape}; expected a whole number or a word for each {items}, not a mix."
    )


def as_int64(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Convert an array of integers of any shape to int64.

    Raises:
        InvalidInputError: a uint64 number beyond int64, which would wrap around.
    """
    if values.dtype.kind == "u" and values.size:
        check_whole_name(int(values.max()), name)
    return values.astype(np.int64)


def check_whole_name(value: int, name: str) -> None:
    """Raise an error if a whole number is beyond int64."""
    if not -MAX_WHOLE - 1 <= value <= MAX_WHOLE:
        raise InvalidInputError(
            f"{name} hold {value}; whole numbers are from {-MAX_WHOLE - 1} to {MAX_WHOLE} (int64): give them as words, "
            "for example with .astype(str)."
        )
