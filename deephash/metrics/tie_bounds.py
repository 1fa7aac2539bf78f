"""The largest and smallest average precision that the order of tied items can give.

Code that sorts by distance reports some value between the two. The gap between them shows how much of a published
difference could be due to the sort alone.
"""

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_numbers
from deephash.metrics.checks import nan_without_relevant
from deephash.metrics.harmonic import rank_sum
from deephash.metrics.query_blocks import in_query_blocks, row_sums
from deephash.metrics.tie_groups import CutGroup, TieGroups, cut_group
from deephash.ranking.counts import DistanceCounts


def _gains(before: Tensor, hits: Tensor, relevant_before: Tensor) -> Tensor:
    """Compute Σ_{i=1..h} (R+i) / (N+i): h relevant items in a row after N ranks with R relevant; float64, any shape."""
    first = relevant_before + 1
    return rank_sum(before, hits, first, torch.ones_like(first))


def best_gains(groups: TieGroups) -> Tensor:
    """Compute each tie group's contribution to the sum of precisions with its relevant items first; float64 (q, g)."""
    return _gains(groups.before, torch.minimum(groups.relevant, groups.taken), groups.relevant_before)


def worst_gains(groups: TieGroups) -> Tensor:
    """Compute each tie group's contribution to the sum of precisions with its relevant items last; float64 (q, g)."""
    others = groups.total - groups.relevant
    return _gains(groups.before + others, (groups.taken - others).clamp_min_(0), groups.relevant_before)


@in_query_blocks
def best_average_precision(counts: DistanceCounts) -> Tensor:
    """Compute AP of the whole ranking with relevant items first among tied ones.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).

    Returns:
        float64 (q,); NaN if a query has no relevant item.
    """
    return row_sums(best_gains(TieGroups.from_counts(counts))) / counts.relevant.sum(1)


@in_query_blocks
def worst_average_precision(counts: DistanceCounts) -> Tensor:
    """Compute AP of the whole ranking with relevant items last among tied ones.

    Args, returns: as `best_average_precision`.
    """
    return row_sums(worst_gains(TieGroups.from_counts(counts))) / counts.relevant.sum(1)


@in_query_blocks
@convert_numpy_numbers
def best_average_precision_at(counts: DistanceCounts, k: int) -> Tensor:
    """Compute the largest AP@k, divided by min(k, relevant items), of any order of tied items.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        k: number of ranks, 1 to N.

    Returns:
        float64 (q,); NaN if a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    return row_sums(best_gains(TieGroups.from_counts(counts, k))) / counts.relevant.sum(1).clamp_max(k)


@in_query_blocks
@convert_numpy_numbers
def worst_average_precision_at(counts: DistanceCounts, k: int) -> Tensor:
    """Compute the smallest AP@k, divided by min(k, relevant items), of any order of tied items.

    Args, returns, raises: as `best_average_precision_at`.
    """
    return row_sums(worst_gains(TieGroups.from_counts(counts, k))) / counts.relevant.sum(1).clamp_max(k)


@in_query_blocks
@convert_numpy_numbers
def best_average_precision_at_over_hits(counts: DistanceCounts, k: int) -> Tensor:
    """Compute the largest AP@k, divided by the relevant items among the first k, of any order of tied items.

    More hits are not always better here. Let the group at rank k have h hits, at its first ranks, after R hits of
    earlier groups. The sum of precisions is convex in h, so its ratio to R + h is largest for the fewest or the most
    hits.

    Args, returns, raises: as `best_average_precision_at`.
    """
    groups = TieGroups.from_counts(counts, k)
    cut = cut_group(groups)
    gains_before = row_sums(best_gains(groups).masked_fill_(~cut.earlier, 0.0))
    fewest, most = _find_possible_hits(cut)

    def score(hits: Tensor) -> Tensor:
        gains = gains_before + _gains(cut.before, hits, cut.relevant_before)
        return gains / (cut.relevant_before + hits).clamp_min(1)

    return nan_without_relevant(torch.maximum(score(fewest), score(most)), counts)


@in_query_blocks
@convert_numpy_numbers
def worst_average_precision_at_over_hits(counts: DistanceCounts, k: int) -> Tensor:
    """Compute the smallest AP@k, divided by the relevant items among the first k, of any order of tied items.

    Let the group at rank k have h hits, at its last ranks up to k, after R hits of earlier groups. The sum of
    precisions is convex in h, so its ratio to R + h falls and then rises, and bisection finds the minimum.

    Args, returns, raises: as `best_average_precision_at`.
    """
    groups = TieGroups.from_counts(counts, k)
    cut = cut_group(groups)
    gains_before = row_sums(worst_gains(groups).masked_fill_(~cut.earlier, 0.0))
    low, high = _find_possible_hits(cut)

    def score(hits: Tensor) -> Tensor:
        gains = gains_before + _gains(cut.before + cut.taken - hits, hits, cut.relevant_before)
        return gains / (cut.relevant_before + hits).clamp_min(1)

    while bool((low < high).any()):
        middle = ((low + high) / 2).floor()
        rises = score(torch.minimum(middle + 1, high)) >= score(middle)
        low, high = torch.where(rises, low, torch.minimum(middle + 1, high)), torch.where(rises, middle, high)
    return nan_without_relevant(score(low), counts)


def _find_possible_hits(cut: CutGroup) -> tuple[Tensor, Tensor]:
    """Return the fewest and the most relevant items among the first c ranks of the cut group; float64 (q,) each."""
    others = cut.total - cut.relevant
    return (cut.taken - others).clamp_min(0), torch.minimum(cut.relevant, cut.taken)
