"""Checks of users' input.

Each message names the given value, what was expected, and what to do.
"""

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.conversion import NotNumbersError, as_array, as_floating, as_tensor, to_plain_number

# Elements per block in checks for NaN: 16 MB of float32.
BLOCK_ELEMENTS = 2**22
# Bounds of the largest magnitude. Within them, float32 can represent squares and their sums over all items.
MIN_MAGNITUDE, MAX_MAGNITUDE = 1e-15, 1e15

MAX_BITS = 65_536
"""Maximum number of bits and of projections: 65,536 directions of 4,096 dimensions need 1 GiB of float32."""


class InvalidInputError(ValueError):
    """An error for input that cannot be used; the message is one line with the reason and what to do."""


class StorageError(InvalidInputError):
    """An error for a file that cannot be written, for example on a full disk; the message names the file."""


class NotFittedError(InvalidInputError):
    """An error for a module that is used before `fit`, or before its weights are loaded."""


def as_features(features: Any, dimension: int | None = None, minimum_rows: int = 0, name: str = "features") -> Tensor:
    """Check features and convert them to a finite floating tensor (n, d).

    Args:
        features: a tensor, an array, a memory map, a frame or nested lists of numbers. Memory is shared if possible.
            Whole numbers and truth values become float32, or float64 if float32 is not exact for their dtype.
        dimension: the required d; None accepts any d >= 1.
        minimum_rows: the smallest n.
        name: name of the values in messages.

    Raises:
        InvalidInputError: not numbers, wrong rank or dimension, too few rows, NaN or infinity.
    """
    return to_floating(as_rows(features, dimension, minimum_rows, name), name)


def as_rows(
    features: Any, dimension: int | None = None, minimum_rows: int = 0, name: str = "features"
) -> Tensor | NDArray[Any]:
    """Check features as `as_features` does, without conversion, so that callers can convert blocks of rows.

    A memory map of any dtype remains one; `to_floating` converts each block of its rows.

    Raises:
        InvalidInputError: as `as_features`.
    """
    rows = as_numbers(features, name)
    if rows.ndim != 2:
        raise InvalidInputError(f"{name} have shape {tuple(rows.shape)}; expected two axes, (n, d).")
    if rows.shape[1] == 0:
        raise InvalidInputError(f"{name} have shape {tuple(rows.shape)}; expected at least one dimension.")
    if dimension is not None and rows.shape[1] != dimension:
        raise InvalidInputError(
            f"{name} have {rows.shape[1]} dimensions; expected {dimension}, the number this was built for."
        )
    if len(rows) < minimum_rows:
        raise InvalidInputError(f"{name} have {len(rows)} rows; expected at least {minimum_rows}.")
    check_finite(rows, name)
    return rows


def as_numbers(values: Any, name: str) -> Tensor | NDArray[Any]:
    """Convert values to a tensor or an array of numbers, without a copy if possible.

    Raises:
        InvalidInputError: not numbers.
    """
    try:
        return as_array(values)
    except NotNumbersError as error:
        raise InvalidInputError(f"{name} {error}") from error


def to_floating(values: Any, name: str = "features") -> Tensor:
    """Convert values of any shape to a floating tensor, as `as_features` does.

    Raises:
        InvalidInputError: not real numbers.
    """
    try:
        return as_floating(values)
    except NotNumbersError as error:
        raise InvalidInputError(f"{name} {error}") from error


def check_finite(features: Any, name: str = "features") -> None:
    """Raise an error if features contain NaN or infinity.

    Args:
        features: a tensor, an array, or rows in a file that can be sliced.
        name: name of the values in messages.

    Raises:
        InvalidInputError: the message has the first row with such a value.
    """
    step = max(1, BLOCK_ELEMENTS // max(1, math.prod(features.shape[1:])))
    bad, first = 0, -1
    for start in range(0, len(features), step):
        block = to_floating(features[start : start + step], name)
        if torch.isfinite(block.sum()):
            continue  # The sum is finite only if all values are.
        rows = torch.nonzero(~torch.isfinite(block).flatten(1).all(1)).flatten()
        if len(rows) and not bad:
            first = start + int(rows[0])
        bad += len(rows)
    if bad:
        raise InvalidInputError(
            f"{name} contain NaN or infinity in {bad} of {len(features)} rows, the first at row {first}; "
            "remove or repair those rows."
        )


def check_scale(
    features: Tensor, name: str = "features", least: float = MIN_MAGNITUDE, most: float = MAX_MAGNITUDE
) -> None:
    """Raise an error if the squares of features, which every method computes, overflow or vanish.

    Args:
        features: finite, floating (n, d).
        name: name of the values in messages.
        least: lower bound of the largest magnitude, not applied if all features are 0. The default is for float32.
        most: upper bound of the largest magnitude.

    Raises:
        InvalidInputError: the message has the largest magnitude and the bounds.
    """
    step = max(1, BLOCK_ELEMENTS // max(1, features.shape[1]))
    largest = max((float(block.abs().amax()) for block in torch.split(features, step) if block.numel()), default=0.0)
    if largest and not least <= largest <= most:
        raise InvalidInputError(
            f"{name} reach {largest:.1e} in magnitude; expected a largest magnitude from {least:g} to {most:g}, "
            f"so that their squares can be summed: divide all features by {largest:.0e}."
        )


def as_labels(labels: Any, rows: int, name: str = "labels") -> Tensor:
    """Convert labels to class indices (n,) or a multi-label indicator (n, c).

    Args:
        labels: class indices, whole numbers (n,) >= 0 of any dtype, or truth values (n, c); a tensor, an array or
            lists.
        rows: the required n.
        name: name of the values in messages.

    Returns:
        int64 (n,) or bool (n, c).

    Raises:
        InvalidInputError: wrong type, dtype, shape, length, or a negative class index.
    """
    try:
        given = as_tensor(labels)
    except NotNumbersError as error:
        raise InvalidInputError(f"{name} {error}") from error
    whole = not given.is_floating_point() and not given.is_complex() and given.dtype != torch.bool
    single = given.ndim == 1 and (whole or given.numel() == 0)
    multiple = given.ndim == 2 and given.dtype == torch.bool
    if not single and not multiple:
        raise InvalidInputError(
            f"{name} have shape {tuple(given.shape)} and dtype {given.dtype}; expected class indices int64 (n,) "
            "or a multi-label indicator bool (n, c)."
        )
    if len(given) != rows:
        raise InvalidInputError(f"{name} have {len(given)} rows; expected {rows}, one for each item.")
    checked = given if multiple else given.to(torch.int64)
    if single and rows and int(checked.min()) < 0:
        if given.dtype == torch.uint64:  # Values beyond int64 wrapped around.
            raise InvalidInputError(
                f"{name} contain {int(checked.min()) + 2**64}, beyond int64; number the classes from 0."
            )
        raise InvalidInputError(f"{name} contain {int(checked.min())}; class indices start at 0.")
    return checked


def check_length(value: int, name: str) -> None:
    """Raise an error unless a number of bits or of projections is a whole number from 1 to `MAX_BITS`."""
    check_count(value, name)
    if value > MAX_BITS:
        raise InvalidInputError(f"{name}={value}; expected a whole number from 1 to {MAX_BITS}.")


def check_bits(bits: int, maximum: int | None = None, reason: str = "") -> None:
    """Raise an error unless a code length is a whole number from 1 to `maximum`.

    Args:
        bits: code length b.
        maximum: the upper bound; None for `MAX_BITS`.
        reason: the reason of the bound, for the message.
    """
    check_length(bits, "bits")
    if maximum is not None and bits > maximum:
        raise InvalidInputError(f"bits={bits} exceeds {maximum}, {reason}; lower bits or choose another method.")


def check_bits_of_projections(bits: int, per_projection: int) -> None:
    """Raise an error if a code length is not a multiple of the bits per projection.

    Args:
        bits: code length b.
        per_projection: bits q of each projection.
    """
    if bits % per_projection:
        above = bits + per_projection - bits % per_projection
        below = f"{above - per_projection} or " if above > per_projection else ""
        raise InvalidInputError(
            f"bits={bits} is not a multiple of the {per_projection} bits per projection; give {below}{above}."
        )


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number of Python, NumPy or another library; truth values are not."""
    value = to_plain_number(value)
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return False
    try:
        operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def check_whole(value: Any, least: int, name: str, most: int | None = None) -> None:
    """Raise an error unless a value is a whole number from `least` to `most`; with None, there is no upper bound."""
    if not is_whole(value) or not least <= value or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InvalidInputError(f"{name}={value!r}; expected a whole number {bounds}.")


def check_count(value: int, name: str) -> None:
    """Raise an error unless a value, such as a dimension or a number of rounds, is a whole number of at least 1."""
    check_whole(value, 1, name)


def is_number(value: Any) -> bool:
    """Return whether a value is a real number of Python or NumPy; truth values are not."""
    value = to_plain_number(value)
    return isinstance(value, Real) and not isinstance(value, bool)


def check_directions(given: int, available: int, source: str) -> None:
    """Raise an error if there are more projections than directions.

    Args:
        given: number of projections k.
        available: number of directions.
        source: the end of the phrase "the 64 directions ..." in the message.
    """
    if given > available:
        raise InvalidInputError(
            f"{given} projections exceed the {available} directions {source}; lower bits or choose a quantiser of "
            "several bits per projection."
        )


def check_number(value: float, name: str) -> None:
    """Raise an error unless a value is a finite number."""
    if not is_number(value) or not math.isfinite(value):
        raise InvalidInputError(f"{name}={value!r}; expected a finite number.")


def check_positive(value: float, name: str) -> None:
    """Raise an error unless a value is a finite number above 0."""
    if not is_number(value) or not 0 < value < math.inf:
        raise InvalidInputError(f"{name}={value!r}; expected a finite number above 0.")


def check_fraction(value: float, name: str) -> None:
    """Raise an error unless a value is a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise InvalidInputError(f"{name}={value!r}; expected a number from 0 to 1.")


def check_choice(value: str, choices: Iterable[str], name: str) -> None:
    """Raise an error unless a word is one of the choices."""
    allowed = sorted(choices)
    if value not in allowed:
        raise InvalidInputError(f"{name}={value!r}; expected one of: {', '.join(allowed)}.")
