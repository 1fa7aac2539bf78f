"""Sums over the ranks of a tie group in closed form, by harmonic numbers H(m) = 1 + 1/2 + ... + 1/m.

The textbook forms, differences of numbers of the size of N, lose as many digits as N has; these keep them at any N.
"""

from functools import lru_cache

import torch
from torch import Tensor

_EULER_GAMMA = 0.5772156649015329
# Sums that start before this rank are looked up or follow from H; from there on, three terms of φ reach the last digit.
_EARLY = 128
_SHORT = 64
# How much larger than the sum's size the parts of its plain form may be: two digits of 16 are given away at most.
_CANCELLATION = 64.0


def rank_sum(before: Tensor, count: Tensor, first: Tensor, step: Tensor) -> Tensor:
    """Σ (a + (i-1) s) / (N + i) over i = 1..n, to about 1e-13 of itself.

    In closed form (a - s (N+1)) (H(N+n) - H(N)) + s n. The difference of harmonic numbers is
    log(1 + n/u) + φ(u+n) - φ(u), with u = N + 1/2 and φ(u) = 1/(24u²) - 7/(960u⁴) + 31/(8064u⁶) - ...; where the two
    parts would cancel, `_separate_sums` adds Σ 1/(N+i) and Σ (i-1)/(N+i) instead, neither of which is negative.

    Args:
        before: int64, any shape; N, the number of ranks before the group.
        count: int64, the same shape; n, the number of ranks summed over; 0 gives 0.
        first: float64, the same shape; a >= 0, the numerator at the first rank.
        step: float64, the same shape; s >= 0, by how much the numerator grows from rank to rank.

    Returns:
        float64 of that shape.
    """
    n, u = count.double(), before.double().add_(0.5)
    end = u + n
    harmonic = (n / u).log1p_().add_(_half_integer_series(end)).sub_(_half_integer_series(u))
    total = (first - step * (u + 0.5)).mul_(harmonic).add_(step * n)
    delicate = ((step * end > _CANCELLATION * first) | (before < _EARLY)) & (count > 0)
    where = torch.nonzero(delicate.flatten()).flatten()
    if len(where):
        inverse, rising = _separate_sums(before.flatten()[where], count.flatten()[where])
        total.view(-1)[where] = first.flatten()[where] * inverse + step.flatten()[where] * rising
    return total


def _half_integer_series(u: Tensor) -> Tensor:
    """φ(u) = H(u - 1/2) - log(u) - γ, for u > 64."""
    w = (u * u).reciprocal_()
    return (w * (31 / 8064)).sub_(7 / 960).mul_(w).add_(1 / 24).mul_(w)


def _separate_sums(before: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Σ 1/(N+i) and Σ (i-1)/(N+i) over i = 1..n, n >= 1, each to 1e-13 of itself; (m,) → (m,) twice.

    The second, n - (N+1) × the first, is u (x - log(1+x)) - log(1+x)/2 - (u+1/2) (φ(u+n) - φ(u)) with x = n/u.
    """
    n, u = count.double(), before.double() + 0.5
    log = torch.log1p(n / u)
    shift = _half_integer_series(u + n) - _half_integer_series(u)
    inverse = log + shift
    rising = u * _x_less_log1p(n / u, log) - 0.5 * log - (u + 0.5) * shift

    inverse_table, rising_table, harmonic = _tables(before.device)
    row, column = before.clamp_max(_EARLY - 1), count.clamp_max(_SHORT - 1)
    to_the_top = torch.log(u + n) + _EULER_GAMMA + _half_integer_series(u + n) - harmonic[row]
    early, short = before < _EARLY, count < _SHORT
    inverse = torch.where(early, torch.where(short, inverse_table[row, column], to_the_top), inverse)
    rising = torch.where(early, torch.where(short, rising_table[row, column], n - (u + 0.5) * to_the_top), rising)
    # Rounding may leave a hair below zero for n = 1, whose second sum is 0.
    return inverse, rising.clamp_min(0.0)


def _x_less_log1p(x: Tensor, log: Tensor) -> Tensor:
    """The difference of x and log(1+x), x >= 0: with z = x/(2+x), 2 (z²/(1-z) - z³/3 - z⁵/5 - ...) for small z."""
    z = x / (x + 2)
    square = z * z
    series = square * (square * (square / 9 + 1 / 7) + 1 / 5) + 1 / 3
    return torch.where(z < 0.02, 2 * square * (1 / (1 - z) - z * series), x - log)


@lru_cache(maxsize=8)
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Both separate sums by N and n, (128, 64), and H(N), (128,)."""
    before = torch.arange(_EARLY, dtype=torch.float64)[:, None]
    i = torch.arange(_SHORT, dtype=torch.float64)
    inverse = torch.where(i > 0, 1 / (before + i), 0.0).cumsum(1)
    rising = torch.where(i > 0, (i - 1) / (before + i), 0.0).cumsum(1)
    harmonic = torch.cat([torch.zeros(1, dtype=torch.float64), 1 / before[1:, 0]]).cumsum(0)
    return inverse.to(device), rising.to(device), harmonic.to(device)
