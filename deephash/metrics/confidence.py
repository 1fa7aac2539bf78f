"""Uncertainty of figures: intervals over repeated runs, and paired tests between methods."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from deephash.validation import InvalidInputError

# With n pairs the p of the signed-rank test is at least 2^(1 - n): with fewer than 6 pairs, it cannot reach .05.
FEWEST_PAIRS = 6

Values = Sequence[float] | np.ndarray | Tensor


@dataclass(frozen=True)
class MeanInterval:
    """A mean over runs with its confidence interval.

    Args:
        mean: mean over the runs.
        low: lower end of the interval.
        high: upper end of the interval.
        runs: number of runs.
    """

    mean: float
    low: float
    high: float
    runs: int

    @property
    def half_width(self) -> float:
        """The number after ± in a table."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PairedTest:
    """Outcome of a two-sided Wilcoxon signed-rank test.

    Args:
        p_value: probability of differences at least as lopsided if the two methods are equally good.
        statistic: the smaller of the two sums of signed ranks.
        median_difference: median of first minus second.
        pairs: number of pairs compared.
        ties: pairs of equal values, which the test ignores.
    """

    p_value: float
    statistic: float
    median_difference: float
    pairs: int
    ties: int


def mean_interval(values: Values, level: float = 0.95) -> MeanInterval:
    """Compute the mean over runs with Student's t interval: mean ± t_{n-1} · s / √n.

    Args:
        values: one figure per run, (n,), n >= 2; runs must differ in their seed, or the interval is meaningless.
        level: probability that such an interval contains the expected figure; .95 as in papers.

    Raises:
        InvalidInputError: fewer than 2 runs, a figure that is not finite, or a level outside (0, 1).
    """
    from scipy import stats

    runs = _as_vector(values, "runs")
    if not 0 < level < 1:
        raise InvalidInputError(f"level={level!r}; expected a number between 0 and 1, such as 0.95.")
    if len(runs) < 2:
        number = "1 run gives" if len(runs) else "0 runs give"
        raise InvalidInputError(f"{number} no interval; expected at least 2, with different seeds.")
    if not np.isfinite(runs).all():
        raise InvalidInputError(
            f"run {int(np.argmin(np.isfinite(runs)))} is not finite; leave out runs without a figure."
        )
    mean, deviation = float(runs.mean()), float(runs.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(runs) - 1)) * deviation / len(runs) ** 0.5
    return MeanInterval(mean, mean - half, mean + half, len(runs))


def wilcoxon(first: Values, second: Values) -> PairedTest:
    """Run a two-sided Wilcoxon signed-rank test between two methods, paired by query or by run.

    Args:
        first: figures of one method, (n,), one per query or run.
        second: figures of the other method, for the same queries or runs in the same order. Pairs in which both values
            are NaN (queries without a relevant item) are ignored.

    Returns:
        The outcome; p = 1 if all pairs are equal.

    Raises:
        InvalidInputError: different lengths, NaN on only one side, infinity, or fewer than 2 pairs.
    """
    from scipy import stats

    a, b = _as_vector(first, "first"), _as_vector(second, "second")
    if len(a) != len(b):
        raise InvalidInputError(
            f"first has {len(a)} values and second {len(b)}; a paired test needs one pair per query or run."
        )
    skipped = np.isnan(a) & np.isnan(b)
    a, b = a[~skipped], b[~skipped]
    lone = ~(np.isfinite(a) & np.isfinite(b))
    if lone.any():
        raise InvalidInputError(
            f"pair {int(lone.argmax())} holds a value that is not finite; compare both methods on the same queries."
        )
    if len(a) < 2:
        raise InvalidInputError(f"a paired test of {len(a)} pairs is meaningless; expected at least 2 queries or runs.")
    differences = a - b
    ties = int((differences == 0).sum())
    if ties == len(a):
        return PairedTest(1.0, 0.0, 0.0, len(a), ties)
    outcome = stats.wilcoxon(differences[differences != 0])
    return PairedTest(float(outcome.pvalue), float(outcome.statistic), float(np.median(differences)), len(a), ties)


def _as_vector(values: Values, name: str) -> np.ndarray:
    """Convert values to float64 (n,)."""
    vector = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, np.float64)
    if vector.ndim != 1:
        raise InvalidInputError(f"{name} have shape {vector.shape}; expected one axis, (n,).")
    return vector
