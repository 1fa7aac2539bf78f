"""Schedules that move a setting from its value at the start of training to that at the end."""

from typing import TypeVar

from torch import Tensor

from deephash.validation import InvalidInputError, check_positive

Progress = TypeVar("Progress", float, Tensor)


def geometric(initial: float, final: float, progress: Progress) -> Progress:
    """Return initial^(1-t) · final^t: equal steps of the progress t multiply by equal factors."""
    value: Progress = initial * (final / initial) ** progress
    return value


def linear(initial: float, final: float, progress: Progress) -> Progress:
    """Return (1 - t) · initial + t · final: equal steps of the progress t add equal amounts."""
    return initial + (final - initial) * progress


def check_rising(initial: float, final: float, name: str) -> None:
    """Raise an error for scales that are not above 0, or that fall: a step sharpens with its scale.

    Args:
        initial: value at progress 0.
        final: value at progress 1.
        name: name of the setting after "initial_" and "final_".

    Raises:
        InvalidInputError: a scale is not above 0, or the scales fall.
    """
    check_positive(initial, f"initial_{name}")
    check_positive(final, f"final_{name}")
    if final < initial:
        raise InvalidInputError(
            f"final_{name}={final!r} is below initial_{name}={initial!r}; a continuation only sharpens."
        )


def check_falling(initial: float, final: float, name: str) -> None:
    """Raise an error for temperatures that are not above 0, or that rise: a step sharpens as it cools.

    Args:
        initial: value at progress 0.
        final: value at progress 1.
        name: name of the setting after "initial_" and "final_".

    Raises:
        InvalidInputError: a temperature is not above 0, or the temperatures rise.
    """
    check_positive(initial, f"initial_{name}")
    check_positive(final, f"final_{name}")
    if final > initial:
        raise InvalidInputError(
            f"final_{name}={final!r} is above initial_{name}={initial!r}; a continuation only sharpens."
        )
