"""Precision, recall and F1 of the first k ranks and of a Hamming ball.

Within the first k, the tie group at the cutoff contributes its expectation over orders (McSherry & Najork, ECIR 2008,
Section 3.2): c of its n ranks hold c·r/n of its r relevant items. A ball cuts no group.
"""

from torch import Tensor

from deephash.conversion import convert_numpy_numbers
from deephash.metrics.checks import check_radius, nan_without_relevant
from deephash.metrics.query_blocks import in_query_blocks
from deephash.metrics.tie_groups import TieGroups, cut_group
from deephash.ranking.counts import DistanceCounts


def _expected_hits(counts: DistanceCounts, k: int) -> Tensor:
    """Compute the expected number of relevant items among the first k; float64 (q,)."""
    cut = cut_group(TieGroups.from_counts(counts, k))
    return cut.relevant_before + cut.taken * cut.relevant / cut.total


@in_query_blocks
@convert_numpy_numbers
def precision_at(counts: DistanceCounts, k: int) -> Tensor:
    """Compute the expected share of relevant items among the first k: hits / k.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        k: number of ranks, 1 to N.

    Returns:
        float64 (q,); NaN if a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    return nan_without_relevant(_expected_hits(counts, k) / k, counts)


@in_query_blocks
@convert_numpy_numbers
def recall_at(counts: DistanceCounts, k: int) -> Tensor:
    """Compute the expected share of the relevant items that are among the first k: hits / relevant items.

    Args, returns, raises: as `precision_at`.
    """
    return _expected_hits(counts, k) / counts.relevant.sum(1)


@in_query_blocks
@convert_numpy_numbers
def f1_at(counts: DistanceCounts, k: int) -> Tensor:
    """Compute expected F1 of the first k: 2 hits / (k + relevant items), the harmonic mean of precision and recall.

    Args, returns, raises: as `precision_at`.
    """
    return nan_without_relevant(2 * _expected_hits(counts, k) / (k + counts.relevant.sum(1)), counts)


def _count_within(counts: DistanceCounts, radius: int) -> tuple[Tensor, Tensor]:
    """Count the items, and the relevant items, within the radius; int64 (q,) each."""
    check_radius(radius, counts.total.shape[1] - 1)
    return counts.total[:, : radius + 1].sum(1), counts.relevant[:, : radius + 1].sum(1)


@convert_numpy_numbers
def precision_within(counts: DistanceCounts, radius: int) -> Tensor:
    """Compute the share of relevant items among the items within a distance; 0 without such items (a failed look-up).

    Some papers ignore failed look-ups instead, which favours codes that rarely find anything.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        radius: largest distance r inside the ball, 0 to D.

    Returns:
        float64 (q,); NaN if a query has no relevant item.

    Raises:
        InvalidInputError: radius below 0 or above D.
    """
    items, hits = _count_within(counts, radius)
    return nan_without_relevant(hits.double() / items.clamp_min(1), counts)


@convert_numpy_numbers
def recall_within(counts: DistanceCounts, radius: int) -> Tensor:
    """Compute the share of the relevant items that are within a distance.

    Args, returns, raises: as `precision_within`.
    """
    return _count_within(counts, radius)[1].double() / counts.relevant.sum(1)


@convert_numpy_numbers
def f1_within(counts: DistanceCounts, radius: int) -> Tensor:
    """Compute F1 of the items within a distance: 2 hits / (items inside + relevant items).

    Args, returns, raises: as `precision_within`.
    """
    items, hits = _count_within(counts, radius)
    return nan_without_relevant(2 * hits.double() / (items + counts.relevant.sum(1)), counts)
