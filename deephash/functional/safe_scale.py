"""Exact scaling of values to magnitudes near 1 by powers of two, so that their squares neither overflow nor vanish."""

import torch
from torch import Tensor


def power_of_two(values: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Return the largest power of two up to the largest magnitude; 1 if that is zero or not finite.

    Division by a power of two is exact, except for values below 2^-126 of the largest. Results that are finite and
    nonzero without scaling are therefore the same with it.

    Args:
        values: floating, any shape.
        dim: axes over which the maximum is taken, kept with length 1; None uses all and returns a scalar.

    Returns:
        The values' dtype, float32 for half precision.
    """
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    if values.numel() == 0:
        return values.new_ones(()) if dim is None else torch.ones_like(values.sum(dim, keepdim=True))
    largest = values.abs().amax() if dim is None else values.abs().amax(dim, keepdim=True)
    usable = torch.isfinite(largest) & (largest > 0)
    mantissa = torch.frexp(torch.where(usable, largest, 1.0)).mantissa
    # A number divided by twice its mantissa is exactly a power of two.
    return torch.where(usable, largest / (2 * mantissa), 1.0)


def safe_lengths(vectors: Tensor) -> Tensor:
    """Compute Euclidean lengths along the last axis, (..., d) → (...), at any scale that the dtype represents."""
    power = power_of_two(vectors, -1)
    lengths: Tensor = torch.linalg.vector_norm(vectors / power, dim=-1)
    return lengths * power[..., 0]
