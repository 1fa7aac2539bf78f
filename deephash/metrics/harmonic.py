"""Sums over the ranks of a tie group in closed form, by harmonic numbers H(m) = 1 + 1/2 + ... + 1/m.

The textbook forms are differences of numbers of size N, so they lose as many digits as N has; these forms do not.
"""

from functools import lru_cache

import torch
from torch import Tensor

EULER_GAMMA = 0.5772156649015329
# Sums that start before this rank are looked up or follow from H. From this rank on, three terms of the series φ of
# `rank_sum` suffice.
EARLY = 128
SHORT = 64
# Largest accepted ratio of the parts of the closed form to their sum. A ratio of 16 costs little more than one of the
# 16 digits of a float64.
CANCELLATION = 16.0


def rank_sum(before: Tensor, count: Tensor, first: Tensor, step: Tensor) -> Tensor:
    """Compute Σ (a + (i-1) s) / (N + i) over i = 1..n, with a relative error of about 1e-13.

    The closed form is (a - s (N+1)) (H(N+n) - H(N)) + s n. The difference of harmonic numbers is log(1 + n/u) + φ(u+n)
    - φ(u), with u = N + 1/2 and φ(u) = 1/(24u²) - 7/(960u⁴) + 31/(8064u⁶) - ...; if the two parts of the closed form
    would cancel, `_compute_separate_sums` adds Σ 1/(N+i) and Σ (i-1)/(N+i) instead; neither is negative.

    Args:
        before: float64, any shape; N, the number of ranks before the group.
        count: float64, the same shape; n, the number of ranks in the sum; 0 gives 0.
        first: float64, the same shape; a >= 0, the numerator at the first rank.
        step: float64, the same shape; s >= 0, the increment of the numerator from rank to rank.

    Returns:
        float64 of that shape.
    """
    u = before + 0.5
    end = u + count
    harmonic = (count / u).log1p_().add_(_series_difference(u, end))
    total = (u + 0.5).mul_(step).neg_().add_(first).mul_(harmonic).addcmul_(step, count)
    early = before < EARLY
    delicate = (step * end > CANCELLATION * first).logical_or_(early).logical_and_(count > 0)
    short = early.logical_and_(count < SHORT).logical_and_(delicate)
    delicate.logical_xor_(short)
    for chosen, separate_sums in ((short, _look_up_sums), (delicate, _compute_separate_sums)):
        where = torch.nonzero(chosen.view(-1)).view(-1)
        if len(where):
            a, s, N, n = (values.reshape(-1)[where] for values in (first, step, before, count))
            inverse, rising = separate_sums(N, n)
            total.view(-1)[where] = inverse.mul_(a).add_(rising.mul_(s))
    return total


def _series_difference(u: Tensor, end: Tensor) -> Tensor:
    """Compute φ(end) - φ(u) for 128 < u <= end, from the first two terms of φ."""
    near, far = (u * u).reciprocal_(), (end * end).reciprocal_()
    factor = (near + far).mul_(-7 / 960).add_(1 / 24)
    return far.sub_(near).mul_(factor)


def _half_integer_series(u: Tensor) -> Tensor:
    """Compute φ(u) = H(u - 1/2) - log(u) - γ for u > 64, from its first three terms."""
    w = (u * u).reciprocal_()
    return (w * (31 / 8064)).sub_(7 / 960).mul_(w).add_(1 / 24).mul_(w)


def _look_up_sums(before: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Look up Σ 1/(N+i) and Σ (i-1)/(N+i) over i = 1..n, for N < 128 and n < 64; (m,) → (m,) twice."""
    inverse, rising, _ = tabulate_sums(before.device)
    entry = (before * SHORT + count).long()
    return inverse[entry], rising[entry]


def _compute_separate_sums(before: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the sums of `_look_up_sums` for n >= 64 or N >= 128, with a relative error of 1e-13; (m,) → (m,) twice.

    The second sum, n - (N+1) × the first, equals u (x - log(1+x)) - log(1+x)/2 - (u+1/2) (φ(u+n) - φ(u)), with
    u = N + 1/2 and x = n/u.
    """
    n, u = count, before + 0.5
    log = torch.log1p(n / u)
    series = _half_integer_series(u + n)
    shift = series - _half_integer_series(u)
    rising = u * _x_minus_log1p(n / u, log) - 0.5 * log - (u + 0.5) * shift
    # The series of φ is inaccurate for small u, but H itself is known there.
    early_inverse = (
        torch.log(u + n) + EULER_GAMMA + series - tabulate_sums(before.device)[2][before.clamp_max(EARLY - 1).long()]
    )
    early = before < EARLY
    inverse = torch.where(early, early_inverse, log + shift)
    rising = torch.where(early, n - (u + 0.5) * early_inverse, rising)
    # The second sum of a single rank is exactly 0.
    return inverse, rising.masked_fill_(n < 2, 0.0)


def _x_minus_log1p(x: Tensor, log: Tensor) -> Tensor:
    """Compute x - log(1+x), x >= 0: with z = x/(2+x), 2 (z²/(1-z) - z³/3 - z⁵/5 - ...) for small z."""
    z = x / (x + 2)
    square = z * z
    series = square * (square * (square / 9 + 1 / 7) + 1 / 5) + 1 / 3
    return torch.where(z < 0.02, 2 * square * (1 / (1 - z) - z * series), x - log)


@lru_cache(maxsize=8)
def tabulate_sums(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Tabulate both sums of `_look_up_sums` at entry 64 N + n, (8192,), and H(N), (128,), for N < 128 and n < 64."""
    before = torch.arange(EARLY, dtype=torch.float64)[:, None]
    i = torch.arange(SHORT, dtype=torch.float64)
    inverse = torch.where(i > 0, 1 / (before + i), 0.0).cumsum(1)
    rising = torch.where(i > 0, (i - 1) / (before + i), 0.0).cumsum(1)
    harmonic = torch.cat([torch.zeros(1, dtype=torch.float64), 1 / before[1:, 0]]).cumsum(0)
    return inverse.flatten().to(device), rising.flatten().to(device), harmonic.to(device)
