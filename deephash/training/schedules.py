"""Learning rates over a training: from the share of it that is done to a factor of the optimiser's rate."""

import math

from deephash.validation import check_fraction


def constant(progress: float) -> float:
    """The optimiser's own rate throughout."""
    return 1.0


def cosine(progress: float, warmup: float = 0.05) -> float:
    """A linear rise over the warm-up, then half a cosine down to 0 (Loshchilov & Hutter, ICLR 2017).

    Args:
        progress: share of the optimiser's steps that are done, from 0 to 1.
        warmup: share of them over which the rate rises from near 0.

    Returns:
        The factor, from 0 to 1.

    Raises:
        InvalidInputError: a warm-up outside [0, 1].
    """
    rise, left = _rise_and_rest(progress, warmup)
    return rise * (1 - math.cos(math.pi * left)) / 2


def triangular(progress: float, warmup: float = 0.2) -> float:
    """As `cosine`, but a linear fall: a triangle, its peak where the warm-up ends (Smith & Topin, 2018)."""
    rise, left = _rise_and_rest(progress, warmup)
    return rise * left


def _rise_and_rest(progress: float, warmup: float) -> tuple[float, float]:
    """How far the warm-up has risen, 1 after it; and the share of what follows it that is left, 1 before."""
    check_fraction(warmup, "warmup")
    if progress < warmup:
        return progress / warmup, 1.0
    return 1.0, (1 - progress) / (1 - warmup) if warmup < 1 else 0.0
