"""Average precision on a CPU, compiled by numba: one pass over a query's counts, without tensors for each term.

It is the formula of `average_precision.expected_gains` with the sums of `harmonic.rank_sum`, chosen per group by the
same conditions, and takes a fifth of the time of the operations on tensors, which other devices need.
"""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs

import math

import numpy as np
import torch
from torch import Tensor

from deephash.functional.compiled import compiled
from deephash.metrics.harmonic import CANCELLATION, EARLY, EULER_GAMMA, SHORT, tabulate_sums
from deephash.ranking.counts import DistanceCounts


def compute_average_precisions(counts: DistanceCounts) -> Tensor:
    """Compute `average_precision` of counts on a CPU: float64 (q,)."""
    total, relevant = (np.ascontiguousarray(x.numpy(), np.int64) for x in (counts.total, counts.relevant))
    tables = (table.numpy() for table in tabulate_sums(torch.device("cpu")))
    values = np.empty(len(total))
    fill_average_precisions(total, relevant, *tables, values)
    return torch.from_numpy(values)


@compiled
def _half_integer_series(u):
    w = 1 / (u * u)
    return ((w * (31 / 8064) - 7 / 960) * w + 1 / 24) * w


@compiled
def _sum_ranks(before, count, first, step, inverse_sums, rising_sums, harmonic):
    """Compute `harmonic.rank_sum` of one group of at least one item."""
    u = before + 0.5
    end = u + count
    if before < EARLY:
        if count < SHORT:
            entry = np.int64(before) * SHORT + np.int64(count)
            return inverse_sums[entry] * first + rising_sums[entry] * step
        inverse = math.log(end) + EULER_GAMMA + _half_integer_series(end) - harmonic[np.int64(before)]
        return inverse * first + (count - (u + 0.5) * inverse) * step
    x = count / u
    log = math.log1p(x)
    shift = _half_integer_series(end) - _half_integer_series(u)
    inverse = log + shift
    if step * end <= CANCELLATION * first:
        return (first - step * (u + 0.5)) * inverse + step * count
    z = x / (x + 2)
    square = z * z
    difference = x - log
    if z < 0.02:
        series = square * (square * (square / 9 + 1 / 7) + 1 / 5) + 1 / 3
        difference = 2 * square * (1 / (1 - z) - z * series)
    rising = u * difference - 0.5 * log - (u + 0.5) * shift if count > 1 else 0.0
    return inverse * first + rising * step


@compiled
def fill_average_precisions(total, relevant, inverse_sums, rising_sums, harmonic, values):
    """Fill `values`, float64 (q,), from counts, int64 (q, D + 1), and the tables of `harmonic.tabulate_sums`."""
    for i in range(len(total)):
        before, hits, gain = 0.0, 0.0, 0.0
        for d in range(total.shape[1]):
            n, r = float(total[i, d]), float(relevant[i, d])
            if r > 0:
                step = (r - 1) / max(n - 1, 1.0)
                gain += _sum_ranks(before, n, hits + 1, step, inverse_sums, rising_sums, harmonic) * (r / n)
            before += n
            hits += r
        values[i] = gain / hits if hits > 0 else np.nan
