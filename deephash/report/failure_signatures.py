"""Warnings about codes that show typical failures, each with its value and a remedy."""

from collections.abc import Mapping

import numpy as np

from deephash.report.diagnostics import LARGE_CORRELATION, UNBALANCED_SHARE, BitDiagnostics

# Mean |correlation| from which a warning is given. On centred MNIST and SIFT, it is .10 to .22 for LSH, whose
# projections are not orthogonal, and .01 to .03 for PCAH.
MEAN_CORRELATION = 0.3
# Among fewer items, correlations are large by chance; their standard deviation is .1 for 100 items.
MIN_CORRELATION_ITEMS = 100
# If more than one query in twenty is left out, the mean describes another task.
SKIPPED_SHARE = 0.05
# Published scores that rise with code length rise by 6 % or more over a sweep.
FLAT_SPREAD = 0.05
# Scores at 48 and 64 bits are close for any good method; only a doubling is informative.
FLAT_BITS_RATIO = 2.0
# A warning lists at most this many bits.
MAX_LISTED_BITS = 8


def find_failure_signatures(diagnostics: BitDiagnostics, *, queries: int = 0, skipped_queries: int = 0) -> list[str]:
    """Return warnings about one run, one line each, with the value and a remedy.

    Args:
        diagnostics: diagnostics of the database codes.
        queries: number of queries, including skipped ones.
        skipped_queries: number of queries without a relevant item, which the means leave out.
    """
    warnings = []
    bits, dead, unbalanced = diagnostics.bits, diagnostics.dead_bits, diagnostics.unbalanced_bits
    if dead:
        warnings.append(
            f"dead bits: {len(dead)} of {bits} are equal for all {diagnostics.items:,} items ({_format_bits(dead)}); "
            "check that the features are centred and vary in that many dimensions, or use fewer bits."
        )
    if unbalanced:
        warnings.append(
            f"unbalanced bits: {len(unbalanced)} of {bits} are 1 for under {UNBALANCED_SHARE:.0%} or over "
            f"{1 - UNBALANCED_SHARE:.0%} of the items ({_format_bits(unbalanced)}); "
            "centre the features or learn the thresholds."
        )
    warnings += _find_correlations(diagnostics)
    if skipped_queries and skipped_queries >= SKIPPED_SHARE * queries:
        warnings.append(
            f"queries without a relevant item: {skipped_queries:,} of {queries:,} are left out of the means; "
            "widen the truth (a larger ε or k), or enlarge the database."
        )
    return warnings


def _find_correlations(diagnostics: BitDiagnostics) -> list[str]:
    pair, mean, largest = diagnostics.most_correlated, diagnostics.mean_correlation, diagnostics.largest_correlation
    if pair is None or mean is None or largest is None or diagnostics.items < MIN_CORRELATION_ITEMS:
        return []
    warnings, bits = [], diagnostics.bits
    if largest >= LARGE_CORRELATION:
        warnings.append(
            f"correlated bits: {diagnostics.correlated_pairs} of {bits * (bits - 1) // 2} pairs have |correlation| of "
            f"{LARGE_CORRELATION} or more, at most {largest:.3f} (bits {pair[0]} and {pair[1]}), and nearly repeat "
            "each other; use fewer bits or orthogonal projections."
        )
    if mean >= MEAN_CORRELATION:
        warnings.append(
            f"correlated bits: the mean |correlation| is {mean:.3f} (high from {MEAN_CORRELATION}); "
            "centre or whiten the features, or use a method with orthogonal projections."
        )
    return warnings


def find_flat_scores(scores: Mapping[int, float], metric: str = "mAP") -> str | None:
    """Return a warning if a score hardly varies with code length, so that more bits add nothing.

    Args:
        scores: code length → score.
        metric: name of the score.

    Returns:
        One line; None if the score varies by at least FLAT_SPREAD of its largest value, the longest code is shorter
        than FLAT_BITS_RATIO times the shortest, or a score is not finite.
    """
    if len(scores) < 2 or max(scores) < FLAT_BITS_RATIO * min(scores):
        return None
    lowest, highest = min(scores.values()), max(scores.values())
    if not np.isfinite([lowest, highest]).all() or highest - lowest >= FLAT_SPREAD * abs(highest):
        return None
    return (
        f"flat scores: {metric} stays between {lowest:.4f} and {highest:.4f} from {min(scores)} to {max(scores)} bits; "
        "longer codes add nothing: check the truth, the features and the training part."
    )


def _format_bits(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:MAX_LISTED_BITS]))
    return f"bits {shown}" + (f" and {len(numbers) - MAX_LISTED_BITS} more" if len(numbers) > MAX_LISTED_BITS else "")
