"""The ways in which learnt codes fail, each a warning with its figure and what to do about it."""

from collections.abc import Mapping

import numpy as np

from deephash.report.diagnostics import LARGE_CORRELATION, UNBALANCED_SHARE, BitDiagnostics

# LSH, whose projections are not orthogonal, has a mean of .10 to .22 on centred MNIST and SIFT; PCAH has .01 to .03.
MEAN_CORRELATION = 0.3
# Chance alone gives large correlations among few items (a deviation of .1 at 100), so fewer say nothing.
CORRELATION_ITEMS = 100
# A mean over the remaining queries speaks of another task when more than one query in twenty is left out.
SKIPPED_SHARE = 0.05
# Between the shortest and the longest code of a sweep, published scores that do rise do so by 6 % or more.
FLAT_SPREAD = 0.05
# Scores at 48 and 64 bits are alike for any good method; under a doubling, flatness says nothing.
FLAT_BITS_RATIO = 2.0
# More bit numbers than this in one line are cut, so that a warning stays a line.
LISTED_BITS = 8


def failure_signatures(diagnostics: BitDiagnostics, *, queries: int = 0, skipped_queries: int = 0) -> list[str]:
    """Warnings of one run, one line each: what was seen, its figure, and what to do.

    Args:
        diagnostics: of the database codes.
        queries: number of queries that were asked, skipped ones included.
        skipped_queries: queries without a relevant item, which the means leave out.
    """
    warnings = []
    bits, dead, unbalanced = diagnostics.bits, diagnostics.dead_bits, diagnostics.unbalanced_bits
    if dead:
        warnings.append(
            f"dead bits: {len(dead)} of {bits} are the same for all {diagnostics.items:,} items ({_list(dead)}); "
            "check that the features are centred and have that many dimensions that vary, or use fewer bits."
        )
    if unbalanced:
        warnings.append(
            f"unbalanced bits: {len(unbalanced)} of {bits} are 1 for under {UNBALANCED_SHARE:.0%} or over "
            f"{1 - UNBALANCED_SHARE:.0%} of the items ({_list(unbalanced)}); "
            "centre the features or learn the thresholds."
        )
    warnings += _correlation_signatures(diagnostics)
    if skipped_queries and skipped_queries >= SKIPPED_SHARE * queries:
        warnings.append(
            f"queries without a relevant item: {skipped_queries:,} of {queries:,} are left out of the means; "
            "widen the truth (a larger ε or k), or enlarge the database."
        )
    return warnings


def _correlation_signatures(diagnostics: BitDiagnostics) -> list[str]:
    pair, mean, largest = diagnostics.most_correlated, diagnostics.mean_correlation, diagnostics.largest_correlation
    if pair is None or mean is None or largest is None or diagnostics.items < CORRELATION_ITEMS:
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


def flat_scores(scores: Mapping[int, float], metric: str = "mAP") -> str | None:
    """A warning where a score hardly varies with code length, the sign of codes that learnt nothing from more bits.

    Args:
        scores: code length → score.
        metric: the score's name, for the message.

    Returns:
        One line, or None where the score varies by FLAT_SPREAD of its largest value or more, where the longest code is
        under FLAT_BITS_RATIO times the shortest, or where a score is not finite.
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


def _list(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:LISTED_BITS]))
    return f"bits {shown}" + (f" and {len(numbers) - LISTED_BITS} more" if len(numbers) > LISTED_BITS else "")
