"""Average precision, tie-aware: its expectation over all orders of the items at the same distance.

A Hamming ranking has many ties, which sorting code breaks arbitrarily. McSherry & Najork, "Computing information
retrieval performance measures efficiently in the presence of tied scores" (ECIR 2008), average over all orders instead;
Cakir et al., "Hashing with mutual information" (TPAMI 2019), use this average for hashing. `tie_bounds` and
`stable_order` give the values that sorting code can report.
"""

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_numbers
from deephash.metrics.checks import nan_without_relevant
from deephash.metrics.harmonic import rank_sum
from deephash.metrics.query_blocks import in_query_blocks, row_sums
from deephash.metrics.tie_groups import TieGroups, cut_group
from deephash.ranking.counts import DistanceCounts


def expected_gains(groups: TieGroups) -> Tensor:
    """Compute each tie group's expected contribution to the sum of precisions at relevant ranks; float64 (q, g).

    A group of n items, r of them relevant, follows N items, R of them relevant, and is cut after its first c ranks. It
    adds (r/n) Σ_{i=1..c} (R + 1 + (i-1)(r-1)/(n-1)) / (N+i). Its i-th rank holds a relevant item with probability r/n.
    Each of the i-1 ranks before then does so with probability (r-1)/(n-1) (McSherry & Najork 2008, Section 3.5).
    """
    n, r = groups.total, groups.relevant
    step = (r - 1).clamp_min_(0).div_((n - 1).clamp_min_(1))
    return rank_sum(groups.before, groups.taken, groups.relevant_before + 1, step).mul_(r / n.clamp_min(1))


def average_precision(counts: DistanceCounts) -> Tensor:
    """Compute expected AP of the whole ranking: the mean of the precisions at the ranks of relevant items.

    It is exact: on short lists it equals the mean over all permutations of tied items, and without ties it is the
    classical AP. Its mean over queries is mAP@all.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).

    Returns:
        float64 (q,); NaN if a query has no relevant item.
    """
    if counts.total.device.type == "cpu":
        # numba takes a second to import.
        from deephash.metrics.compiled_precision import compute_average_precisions

        return compute_average_precisions(counts)
    return _average_precision_of_tensors(counts)


@in_query_blocks
def _average_precision_of_tensors(counts: DistanceCounts) -> Tensor:
    """Compute `average_precision` by operations on tensors, for any device."""
    return row_sums(expected_gains(TieGroups.from_counts(counts))) / counts.relevant.sum(1)


@in_query_blocks
@convert_numpy_numbers
def average_precision_at(counts: DistanceCounts, k: int) -> Tensor:
    """Compute expected AP@k, divided by min(k, relevant items): the form called mAP@k here.

    The divisor is the largest possible number of relevant items among the first k. The score is therefore 1 exactly if
    these ranks are as good as possible, and an additional relevant item among them never lowers the score. Each of the
    two forms below lacks one of these properties.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        k: number of ranks, 1 to N.

    Returns:
        float64 (q,); NaN if a query has no relevant item.

    Raises:
        InvalidInputError: k below 1 or above the number of ranked items.
    """
    return row_sums(expected_gains(TieGroups.from_counts(counts, k))) / counts.relevant.sum(1).clamp_max(k)


@in_query_blocks
@convert_numpy_numbers
def average_precision_at_over_relevant(counts: DistanceCounts, k: int) -> Tensor:
    """Compute expected AP@k, divided by all relevant items: TREC's form, where items below rank k count as missed.

    It cannot exceed k / relevant items: on CIFAR-10 with 5,900 relevant items, mAP@1000 stays below .17.

    Args, returns, raises: as `average_precision_at`.
    """
    return row_sums(expected_gains(TieGroups.from_counts(counts, k))) / counts.relevant.sum(1)


@in_query_blocks
@convert_numpy_numbers
def average_precision_at_over_hits(counts: DistanceCounts, k: int) -> Tensor:
    """Compute expected AP@k, divided by the relevant items among the first k, as most deep hashing code does.

    It is 0 if there are none. A single relevant item at rank 1 scores 1, and another one further down lowers the score.
    The tie group at k has n items, r of them relevant, and c of its ranks are above the cut. The number h of relevant
    items at these ranks is hypergeometric, and the expectation over h is exact. Before the group are N items, R of
    them relevant, with gain A. The score is (A + (h/c) Σ_{i=1..c} (R+1+(i-1)(h-1)/(c-1)) / (N+i)) / (R+h). This is a
    quadratic in h over R + h, so division leaves a linear function of h and a multiple of 1/(R+h).

    Args, returns, raises: as `average_precision_at`.
    """
    groups = TieGroups.from_counts(counts, k)
    cut = cut_group(groups)
    gains_before = row_sums(expected_gains(groups).masked_fill_(~cut.earlier, 0.0))
    zero, one = torch.zeros_like(gains_before), torch.ones_like(gains_before)
    R, c = cut.relevant_before, cut.taken
    linear = rank_sum(cut.before, cut.taken, R + 1, zero) / c
    quadratic = rank_sum(cut.before, cut.taken, zero, one) / (c * (c - 1)).clamp_min(1)
    constant = linear - quadratic * (1 + R)
    expected_hits = c * cut.relevant / cut.total
    any_hit, inverse_hits = _hypergeometric_moments(cut.total, cut.relevant, cut.taken, cut.relevant_before)
    values = quadratic * expected_hits + constant * any_hit + (gains_before - R * constant) * inverse_hits
    return nan_without_relevant(values, counts)


def _hypergeometric_moments(total: Tensor, relevant: Tensor, drawn: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Compute P(R + h > 0) and E[1/(R+h); R + h > 0] for the number h of relevant items among those drawn.

    Probabilities are computed from the ratios of consecutive ones, so that they are accurate to about 1e-14 at any
    size. Values of h that together have a probability of at most 1e-18, by Bernstein's inequality, are left out.

    Args:
        total: number n >= 1 of items in the group, float64 (q,), as all arguments.
        relevant: number r of relevant items in the group.
        drawn: number c >= 1 of items drawn.
        before: number R of relevant items before the group.
    """
    low, high = (drawn + relevant - total).clamp_min(0), torch.minimum(drawn, relevant)
    mode = ((drawn + 1) * (relevant + 1) / (total + 2)).floor_().clamp_(low, high)
    share = relevant / total
    variance = torch.minimum(drawn, total - drawn) * share * (1 - share)
    reach = (16 + (200 + 85 * variance).sqrt_()).floor_()
    start, stop = torch.maximum(low, mode - reach), torch.minimum(high, mode + reach)
    any_hit, inverse_hits = torch.empty_like(share), torch.empty_like(share)
    width = int((stop - start).max()) + 1 if len(total) else 1
    rows = max(1, (1 << 17) // width)
    for begin in range(0, len(total), rows):
        block = slice(begin, begin + rows)
        n, r, c = total[block, None], relevant[block, None], drawn[block, None]
        h = start[block, None] + torch.arange(width, dtype=torch.float64, device=total.device)
        inside = h <= stop[block, None]
        # P(h) / P(h-1); 1 for the first h and beyond the last.
        ratio = (r - h + 1).mul_(c - h + 1).div_((n - r - c + h).mul_(h))
        ratio.masked_fill_(~inside | (h <= start[block, None]), 1.0)
        logarithms = ratio.log_().cumsum(1)
        weights = (logarithms - logarithms.amax(1, keepdim=True)).exp_().masked_fill_(~inside, 0.0)
        mass = row_sums(weights)
        hits = before[block, None] + h
        any_hit[block] = row_sums(weights.masked_fill_(hits == 0, 0.0)) / mass
        inverse_hits[block] = row_sums(weights.div_(hits.clamp_min_(1))) / mass
    return any_hit, inverse_hits
