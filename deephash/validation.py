"""Checks of what a user hands in; each error sentence exists once, here.

A sentence names the value given, what was expected, and what to do.
"""

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.conversion import NotNumbersError, as_array, as_floating, as_tensor, plain_number

# Elements that are looked at together for NaN: 16 MB of float32.
BLOCK_ELEMENTS = 2**22
# Magnitudes whose squares, and sums of these over all items, float32 holds.
MIN_MAGNITUDE, MAX_MAGNITUDE = 1e-15, 1e15

MAX_BITS = 65_536
"""The longest code, and the most projections: a matrix of 4096-dimensional directions takes a gigabyte for so many."""


class InvalidInputError(ValueError):
    """What the user gave cannot be used; the message is one line that says why and what to do."""


class StorageError(InvalidInputError):
    """A file could not be written: a full disk, a folder that is read-only; the message names it."""


class NotFittedError(InvalidInputError):
    """A module was used before `fit` or before its weights were loaded."""


def as_features(features: Any, dimension: int | None = None, minimum_rows: int = 0, name: str = "features") -> Tensor:
    """Features as a finite floating tensor (n, d).

    Args:
        features: what was given: a tensor, an array, a memory map, a frame or nested lists of numbers. Memory is
            shared where it can be. Whole numbers and truth values become float32, or float64 where float32 may not
            hold them.
        dimension: the d that is required; None accepts any d >= 1.
        minimum_rows: the least n.
        name: how the message calls them.

    Raises:
        InvalidInputError: no numbers, wrong rank, dimension, too few rows, NaN or infinity.
    """
    return floating(as_rows(features, dimension, minimum_rows, name), name)


def as_rows(
    features: Any, dimension: int | None = None, minimum_rows: int = 0, name: str = "features"
) -> Tensor | NDArray[Any]:
    """Features that `as_features` takes, checked and not yet converted, so that blocks of rows can be.

    A memory map stays one, whatever its type: `floating` makes a tensor of each block of its rows.

    Raises:
        InvalidInputError: as `as_features`.
    """
    rows = numbers(features, name)
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


def numbers(values: Any, name: str) -> Tensor | NDArray[Any]:
    """Values as a tensor or an array of numbers, not copied where that is possible.

    Raises:
        InvalidInputError: no numbers, naming what was given.
    """
    try:
        return as_array(values)
    except NotNumbersError as error:
        raise InvalidInputError(f"{name} {error}") from error


def floating(values: Any, name: str = "features") -> Tensor:
    """Values as a floating tensor of any shape, as `as_features` makes one.

    Raises:
        InvalidInputError: no real numbers.
    """
    try:
        return as_floating(values)
    except NotNumbersError as error:
        raise InvalidInputError(f"{name} {error}") from error


def check_finite(features: Any, name: str = "features") -> None:
    """Raise an error for NaN and infinity, naming the first row that holds one.

    Args:
        features: a tensor, an array, or rows in a file, which give blocks by slices.
        name: how the message calls them.

    Raises:
        InvalidInputError: where a value is not finite.
    """
    step = max(1, BLOCK_ELEMENTS // max(1, math.prod(features.shape[1:])))
    bad, first = 0, -1
    for start in range(0, len(features), step):
        block = floating(features[start : start + step], name)
        if torch.isfinite(block.sum()):
            # A NaN or an infinity makes the sum of all not finite; a finite sum clears a block in one pass.
            continue
        rows = torch.nonzero(~torch.isfinite(block).flatten(1).all(1)).flatten()
        if len(rows) and not bad:
            first = start + int(rows[0])
        bad += len(rows)
    if bad:
        raise InvalidInputError(
            f"{name} hold NaN or infinity in {bad} of {len(features)} rows, the first at row {first}; "
            "remove or repair those rows."
        )


def check_scale(
    features: Tensor, name: str = "features", least: float = MIN_MAGNITUDE, most: float = MAX_MAGNITUDE
) -> None:
    """Raise an error for features whose squares overflow or vanish, which every method takes in one way or another.

    Args:
        features: finite, floating (n, d).
        name: how the message calls them.
        least: the smallest that their largest magnitude may be, where it is not 0; for float32.
        most: the largest.

    Raises:
        InvalidInputError: naming the largest magnitude and the bounds.
    """
    step = max(1, BLOCK_ELEMENTS // max(1, features.shape[1]))
    largest = max((float(block.abs().amax()) for block in torch.split(features, step) if block.numel()), default=0.0)
    if largest and not least <= largest <= most:
        raise InvalidInputError(
            f"{name} reach {largest:.1e} in magnitude; expected a largest magnitude from {least:g} to {most:g}, "
            f"so that their squares can be summed: divide all features by {largest:.0e}."
        )


def as_labels(labels: Any, rows: int, name: str = "labels") -> Tensor:
    """Labels as class indices (n,) or a multi-label indicator (n, c).

    Args:
        labels: whole numbers (n,) >= 0, class indices, of any type, or truth values (n, c); a tensor, an array or
            lists.
        rows: the n that is required.
        name: how the message calls them.

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
        if given.dtype == torch.uint64:  # They wrapped around.
            raise InvalidInputError(
                f"{name} hold {int(checked.min()) + 2**64}, beyond int64; number the classes from 0."
            )
        raise InvalidInputError(f"{name} hold {int(checked.min())}; class indices start at 0.")
    return checked


def check_length(value: int, name: str) -> None:
    """Refuse what is not a whole number from 1 to `MAX_BITS`, as a number of bits or of projections must be.

    Raises:
        InvalidInputError: naming the value.
    """
    check_count(value, name)
    if value > MAX_BITS:
        raise InvalidInputError(f"{name}={value}; expected a whole number from 1 to {MAX_BITS}.")


def check_bits(bits: int, maximum: int | None = None, reason: str = "") -> None:
    """Raise an error for a code length that is not a whole number from 1 to `maximum`.

    Args:
        bits: code length b.
        maximum: the most this can give; None for `MAX_BITS`.
        reason: what sets the bound, for the message.

    Raises:
        InvalidInputError: naming the length and the bound.
    """
    check_length(bits, "bits")
    if maximum is not None and bits > maximum:
        raise InvalidInputError(f"bits={bits} exceeds {maximum}, {reason}; lower bits or choose another method.")


def check_bits_of_projections(bits: int, per_projection: int) -> None:
    """Raise an error for a code length that no whole number of projections gives.

    Args:
        bits: code length b.
        per_projection: bits q that the quantiser spends on each projection.

    Raises:
        InvalidInputError: naming the length and the next ones that fit.
    """
    if bits % per_projection:
        above = bits + per_projection - bits % per_projection
        below = f"{above - per_projection} or " if above > per_projection else ""
        raise InvalidInputError(
            f"bits={bits} is no multiple of the {per_projection} bits a projection; give {below}{above}."
        )


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of Python's, NumPy's or another kind; a truth value is none."""
    value = plain_number(value)
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return False
    try:
        operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def check_whole(value: Any, least: int, name: str, most: int | None = None) -> None:
    """Raise an error for a value that is not a whole number within bounds.

    Args:
        value: what was given.
        least: the smallest that is accepted.
        name: how the message calls it.
        most: the largest; None for no bound.

    Raises:
        InvalidInputError: naming the value.
    """
    if not is_whole(value) or not least <= value or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InvalidInputError(f"{name}={value!r}; expected a whole number {bounds}.")


def check_count(value: int, name: str) -> None:
    """Refuse what is not a whole number of at least 1, as a dimension or a number of rounds must be.

    Raises:
        InvalidInputError: naming the value.
    """
    check_whole(value, 1, name)


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python's or NumPy's; a truth value is none."""
    value = plain_number(value)
    return isinstance(value, Real) and not isinstance(value, bool)


def check_directions(given: int, available: int, source: str) -> None:
    """Raise an error for more projections than there are directions to project on.

    Args:
        given: number of projections k that was asked for.
        available: the most there can be.
        source: what sets the bound, completing "the 64 directions ...".

    Raises:
        InvalidInputError: naming both numbers.
    """
    if given > available:
        raise InvalidInputError(
            f"{given} projections exceed the {available} directions {source}; lower bits or choose a quantiser of "
            "several bits a projection."
        )


def check_number(value: float, name: str) -> None:
    """Raise an error for a value that is not a finite number.

    Raises:
        InvalidInputError: naming the value.
    """
    if not is_number(value) or not math.isfinite(value):
        raise InvalidInputError(f"{name}={value!r}; expected a finite number.")


def check_positive(value: float, name: str) -> None:
    """Raise an error for a value that is not a finite number above zero.

    Raises:
        InvalidInputError: naming the value.
    """
    if not is_number(value) or not 0 < value < math.inf:
        raise InvalidInputError(f"{name}={value!r}; expected a finite number above 0.")


def check_fraction(value: float, name: str) -> None:
    """Raise an error for a value that is not a number from 0 to 1.

    Raises:
        InvalidInputError: naming the value.
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise InvalidInputError(f"{name}={value!r}; expected a number from 0 to 1.")


def check_choice(value: str, choices: Iterable[str], name: str) -> None:
    """Raise an error for a word that is not one of the choices.

    Raises:
        InvalidInputError: naming the word and the choices.
    """
    allowed = sorted(choices)
    if value not in allowed:
        raise InvalidInputError(f"{name}={value!r}; expected one of: {', '.join(allowed)}.")
