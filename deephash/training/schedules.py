"""Learning rates over a training: from the share of it that is done to a factor of the optimiser's rate."""

import math

from deephash.validation import check_fraction


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
    check_fraction(warmup, "warmup")
    if progress < warmup:
        return progress / warmup
    return (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-12))) / 2


def constant(progress: float) -> float:
    """The optimiser's own rate throughout."""
    return 1.0


def triangular(progress: float, warmup: float = 0.2) -> float:
    """A linear rise over the warm-up, then a linear fall to 0.

    Args:
        progress: share of the optimiser's steps that are done, from 0 to 1.
        warmup: share of them over which the rate rises from near 0.

    Returns:
        The factor, from 0 to 1.

    Raises:
        InvalidInputError: a warm-up outside [0, 1].
    """
    check_fraction(warmup, "warmup")
    if progress < warmup:
        return progress / warmup
    return (1 - progress) / max(1 - warmup, 1e-12)
