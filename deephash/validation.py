"""Checks of what a user hands in; each error sentence exists once, here.

A sentence names the value given, what was expected, and what to do.
"""

import math
from collections.abc import Iterable
from numbers import Real

import torch
from torch import Tensor


class InvalidInputError(ValueError):
    """What the user gave cannot be used; the message is one line that says why and what to do."""


class StorageError(InvalidInputError):
    """A file could not be written: a full disk, a folder that is read-only; the message names it."""


class NotFittedError(InvalidInputError):
    """A module was used before `fit` or before its weights were loaded."""


def check_features(
    features: Tensor, dimension: int | None = None, minimum_rows: int = 0, name: str = "features"
) -> None:
    """Refuse features that are not a finite floating matrix (n, d).

    Args:
        features: what was given; (n, d) is expected.
        dimension: the d that is required; None accepts any d >= 1.
        minimum_rows: the least n.
        name: how the message calls them.

    Raises:
        InvalidInputError: wrong type, dtype, rank, dimension, too few rows, NaN or infinity.
    """
    if not isinstance(features, Tensor):
        raise InvalidInputError(f"{name} are a {type(features).__name__}; give a torch.Tensor of shape (n, d).")
    if features.ndim != 2:
        raise InvalidInputError(f"{name} have shape {tuple(features.shape)}; expected two axes, (n, d).")
    if not features.is_floating_point():
        raise InvalidInputError(f"{name} have dtype {features.dtype}; expected a floating dtype, as features.float().")
    if features.shape[1] == 0:
        raise InvalidInputError(f"{name} have shape {tuple(features.shape)}; expected at least one dimension.")
    if dimension is not None and features.shape[1] != dimension:
        raise InvalidInputError(
            f"{name} have {features.shape[1]} dimensions; expected {dimension}, the number this was built for."
        )
    if len(features) < minimum_rows:
        raise InvalidInputError(f"{name} have {len(features)} rows; expected at least {minimum_rows}.")
    check_finite(features, name)


def check_finite(features: Tensor, name: str = "features") -> None:
    """Refuse NaN and infinity, naming the first row that holds one.

    Raises:
        InvalidInputError: where a value is not finite.
    """
    if features.numel() == 0 or torch.isfinite(features.sum()):
        # A NaN or an infinity makes the sum of all not finite; a finite sum clears the whole matrix in one pass.
        return
    finite = torch.isfinite(features).flatten(1).all(1)
    if bool(finite.all()):  # The sum overflowed, the values did not.
        return
    bad = torch.nonzero(~finite).flatten()
    raise InvalidInputError(
        f"{name} hold NaN or infinity in {len(bad)} of {len(features)} rows, the first at row {int(bad[0])}; "
        "remove or repair those rows."
    )


def check_labels(labels: Tensor, rows: int, name: str = "labels") -> None:
    """Refuse labels that are neither class indices (n,) nor a multi-label indicator (n, c).

    Args:
        labels: int64 (n,) class indices >= 0, or bool (n, c).
        rows: the n that is required.
        name: how the message calls them.

    Raises:
        InvalidInputError: wrong type, dtype, shape, length, or a negative class index.
    """
    if not isinstance(labels, Tensor):
        raise InvalidInputError(f"{name} are a {type(labels).__name__}; give a torch.Tensor.")
    single = labels.ndim == 1 and labels.dtype == torch.int64
    multiple = labels.ndim == 2 and labels.dtype == torch.bool
    if not single and not multiple:
        raise InvalidInputError(
            f"{name} have shape {tuple(labels.shape)} and dtype {labels.dtype}; expected class indices int64 (n,) "
            "or a multi-label indicator bool (n, c)."
        )
    if len(labels) != rows:
        raise InvalidInputError(f"{name} have {len(labels)} rows; expected {rows}, one for each item.")
    if single and rows and int(labels.min()) < 0:
        raise InvalidInputError(f"{name} hold {int(labels.min())}; class indices start at 0.")


def check_bits(bits: int, maximum: int | None = None, reason: str = "") -> None:
    """Refuse a code length that is not a whole number from 1 to `maximum`.

    Args:
        bits: code length b.
        maximum: the most this can give; None for no bound.
        reason: what sets the bound, for the message.

    Raises:
        InvalidInputError: naming the length and the bound.
    """
    check_count(bits, "bits")
    if maximum is not None and bits > maximum:
        raise InvalidInputError(f"bits={bits} exceeds {maximum}, {reason}; lower bits or choose another method.")


def check_bits_of_projections(bits: int, per_projection: int) -> None:
    """Refuse a code length that no whole number of projections gives.

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


def check_count(value: int, name: str) -> None:
    """Refuse what is not a whole number of at least 1, as a dimension or a number of rounds must be.

    Raises:
        InvalidInputError: naming the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{name}={value!r}; expected a whole number of at least 1.")


def check_directions(given: int, available: int, source: str) -> None:
    """Refuse more projections than there are directions to project on.

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
    """Refuse what is not a finite number.

    Raises:
        InvalidInputError: naming the value.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InvalidInputError(f"{name}={value!r}; expected a finite number.")


def check_positive(value: float, name: str) -> None:
    """Refuse what is not a finite number above zero.

    Raises:
        InvalidInputError: naming the value.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise InvalidInputError(f"{name}={value!r}; expected a finite number above 0.")


def check_fraction(value: float, name: str) -> None:
    """Refuse what is not a number from 0 to 1.

    Raises:
        InvalidInputError: naming the value.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise InvalidInputError(f"{name}={value!r}; expected a number from 0 to 1.")


def check_choice(value: str, choices: Iterable[str], name: str) -> None:
    """Refuse a word that is not one of the choices.

    Raises:
        InvalidInputError: naming the word and the choices.
    """
    allowed = sorted(choices)
    if value not in allowed:
        raise InvalidInputError(f"{name}={value!r}; expected one of: {', '.join(allowed)}.")
