"""Powers of two by which numbers are brought near 1, exactly, so that squares neither overflow nor vanish."""

import torch
from torch import Tensor


def power_of_two(values: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """The power of two just below the largest magnitude; 1 where there is none, as of zeros or of what is not finite.

    Dividing by it rounds nothing (but for what is 2^-126 of the largest and less), so results that had neither
    overflowed nor vanished stay the same bit for bit.

    Args:
        values: floating, any shape.
        dim: axes over which the largest is taken, kept with length 1; None takes all, and gives a scalar.

    Returns:
        Of the values' dtype, float32 for half precision.
    """
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    if values.numel() == 0:
        return values.new_ones(()) if dim is None else torch.ones_like(values.sum(dim, keepdim=True))
    largest = values.abs().amax() if dim is None else values.abs().amax(dim, keepdim=True)
    usable = torch.isfinite(largest) & (largest > 0)
    mantissa = torch.frexp(torch.where(usable, largest, 1.0)).mantissa
    # A number over twice its mantissa is a power of two, which division gives exactly.
    return torch.where(usable, largest / (2 * mantissa), 1.0)


def safe_lengths(vectors: Tensor) -> Tensor:
    """Euclidean lengths along the last axis, (..., d) → (...), of any scale that the dtype holds."""
    power = power_of_two(vectors, -1)
    lengths: Tensor = torch.linalg.vector_norm(vectors / power, dim=-1)
    return lengths * power[..., 0]
