"""Differentiable average precision of rankings with ties, from counts that need not be integers."""

import torch
from torch import Tensor

# Smallest number of items of a bin; the rates of change at this number and at 0 agree to six digits.
EMPTY = 1e-6
# Half the width of the window around one item within which a share is interpolated linearly.
WINDOW = 1e-3


def harmonic_rise(before: Tensor, items: Tensor) -> Tensor:
    """Compute Σ_{i=1..n} 1 / (N + i), for counts n and N that need not be integers: ψ(N + n + 1) - ψ(N + 1)."""
    return torch.digamma(before + items + 1) - torch.digamma(before + 1)


def _compute_pair_share(before: Tensor, items: Tensor) -> Tensor:
    """Compute Σ_{i=1..n} (i - 1) / (N + i), divided by n (n - 1), for n other than 0 and 1."""
    return (items - (before + 1) * harmonic_rise(before, items)) / (items * (items - 1))


def tie_aware_average_precision(total: Tensor, relevant: Tensor) -> Tensor:
    """Compute the expected average precision over all orders of tied items, for counts that need not be integers.

    A group of n items, r of them relevant, after N items with R relevant, adds (r/n) Σ_{i=1..n} (R + 1 + (i-1)(r-1) /
    (n-1)) / (N+i) to the sum of precisions (McSherry & Najork, ECIR 2008, Section 3.5). This is exact, whereas He et
    al. (Eq. 8) use the middle rank for all items of a group. Sums over 1 / (N+i) are differences of the digamma
    function, which extends the formula to counts that are not integers. With such counts, a relevant item shared
    between two otherwise empty bins still adds exactly the precision at its rank.

    Args:
        total: floating (q, bins), items at each distance, nearest first.
        relevant: (q, bins), relevant items at each distance.

    Returns:
        (q,), 0 for a query without relevant items; differentiable in both.
    """
    dtype = total.dtype
    # Differences of digamma functions of hundreds of items need double precision.
    total, relevant = total.double(), relevant.double()
    before_total = total.cumsum(1) - total
    before_relevant = relevant.cumsum(1) - relevant
    items = total.clamp_min(EMPTY)
    # The share of pairs is smooth in n, but its formula is 0/0 at n = 1.
    single = (items - 1).abs() < WINDOW
    low, high = items.masked_fill(single, 1 - WINDOW), items.masked_fill(single, 1 + WINDOW)
    position = (items - 1 + WINDOW) / (2 * WINDOW)
    below, above = _compute_pair_share(before_total, low), _compute_pair_share(before_total, high)
    pair_share = torch.where(single, below + position * (above - below), below)
    precision = (before_relevant + 1) * harmonic_rise(before_total, items) / items + (relevant - 1) * pair_share
    return ((relevant * precision).sum(1) / relevant.sum(1).clamp_min(torch.finfo(dtype).tiny)).to(dtype)
