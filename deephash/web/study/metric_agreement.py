"""Agreement between metrics and judgements over queries."""

from dataclasses import dataclass
from typing import final

import numpy as np

RESAMPLES = 1_000


@final
@dataclass(frozen=True)
class MetricAgreement:
    """Agreement between a metric and judgements over queries.

    Args:
        metric: name of the metric, compared by its difference between the two runs on each query.
        judged: "preference" (mean of 1 for the first run, -1 for the second and 0 for neither) or "rating" (mean
            difference of ratings).
        queries: number of queries with a judgement and a value of the metric.
        tau: Kendall's tau-b; None if the judgements or the differences of the metric are equal for all queries.
        interval: 95 % interval by resampling queries.
    """

    metric: str
    judged: str
    queries: int
    tau: float | None
    interval: tuple[float, float] | None


def measure_agreement(
    metric: str, judged: str, gains: np.ndarray, judgements: np.ndarray, draw: np.random.Generator
) -> MetricAgreement:
    """Compute Kendall's tau-b over queries with its interval.

    Args:
        metric: name of the metric.
        judged: name of the judgements.
        gains: float64 (n,), difference of the metric on each query; NaN for a query without a value.
        judgements: float64 (n,), mean judgement of each query.
        draw: generator of the resamples.
    """
    known = np.isfinite(gains)
    # Rounding removes differences that only come from the order of sums.
    signs, judged_signs = (order_signs(values[known].round(12)) for values in (gains, judgements))
    size = int(known.sum())
    tau = float(weighted_tau(signs, judged_signs, np.ones((1, size)))[0]) if size else np.nan
    if not np.isfinite(tau):
        return MetricAgreement(metric, judged, size, None, None)
    weights = draw.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.float64)
    resampled = weighted_tau(signs, judged_signs, weights)
    low, high = np.quantile(resampled[np.isfinite(resampled)], (0.025, 0.975))
    return MetricAgreement(metric, judged, size, tau, (float(low), float(high)))


def order_signs(values: np.ndarray) -> np.ndarray:
    """Return which of each pair of values is larger: 1, -1, or 0 for ties; float64 (n, n)."""
    return np.asarray(np.sign(values[:, None] - values[None]))


def weighted_tau(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b of samples in which queries have weights.

    Args:
        first: (n, n), as returned by `order_signs`.
        second: (n, n), of the other values.
        weights: (B, n), number of times that each sample holds each query.

    Returns:
        float64 (B,); NaN for samples in which all values are tied.
    """
    concordant, untied, second_untied = (
        np.einsum("bn,bn->b", weights @ pairs, weights) for pairs in (first * second, first * first, second * second)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(concordant / np.sqrt(untied * second_untied))
