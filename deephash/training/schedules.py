"""Schedules of the learning rate: functions from the share of completed steps to a factor of the rate."""

import math

from deephash.validation import check_fraction


def constant(progress: float) -> float:
    """Return 1: a constant rate."""
    return 1.0


def cosine(progress: float, warmup: float = 0.05) -> float:
    """Rise linearly during the warm-up, then fall to 0 by half a cosine (Loshchilov & Hutter, ICLR 2017).

    Args:
        progress: share of completed steps, from 0 to 1.
        warmup: share of the steps in which the rate rises from near 0.

    Returns:
        The factor, from 0 to 1.

    Raises:
        InvalidInputError: the warm-up is outside [0, 1].
    """
    rise, left = _compute_rise_and_rest(progress, warmup)
    return rise * (1 - math.cos(math.pi * left)) / 2


def triangular(progress: float, warmup: float = 0.2) -> float:
    """Rise linearly during the warm-up, then fall linearly to 0 (Smith & Topin, 2018)."""
    rise, left = _compute_rise_and_rest(progress, warmup)
    return rise * left


def _compute_rise_and_rest(progress: float, warmup: float) -> tuple[float, float]:
    """Return the completed share of the warm-up, and the remaining share of the steps after it."""
    check_fraction(warmup, "warmup")
    if progress < warmup:
        return progress / warmup, 1.0
    return 1.0, (1 - progress) / (1 - warmup) if warmup < 1 else 0.0
