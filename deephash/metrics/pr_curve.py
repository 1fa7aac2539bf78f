"""The precision-recall curve of a growing Hamming radius, and the area under it.

Points are at the radii 0 to D, joined by straight lines (the trapezoid rule), as in Moran's papers and thesis
("Learning to hash for large scale image retrieval", Edinburgh 2016). A curve of few points needs a starting point at
recall 0. Here its precision is that of the first radius that finds anything. A code that maps all items to one point
then scores the share of relevant items, as a random order does. A start at (0, 1), as in scikit-learn, would give this
code an area of more than 1/2. Without a starting point, a perfect code, with all relevant items at distance 0, would
have area 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.metrics.query_blocks import in_query_blocks, query_blocks, row_sums
from deephash.ranking.counts import DistanceCounts


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision against recall at each radius.

    Args:
        recall: float64 (D + 1,), never falling, 1 at the largest radius.
        precision: float64 (D + 1,).
    """

    recall: Tensor
    precision: Tensor


def pr_curve_micro(counts: DistanceCounts) -> PrecisionRecallCurve:
    """Compute the curve of all query-item pairs pooled: precision and recall of the pairs within each radius.

    Queries without a relevant item contribute their wrong pairs, as in Moran's evaluation. A radius that finds nothing
    has recall 0 and the precision of the first radius that finds anything.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).

    Returns:
        The curve; NaN if no query has a relevant item.
    """
    total, relevant = counts.total.sum(0, keepdim=True), counts.relevant.sum(0, keepdim=True)
    recall = relevant.cumsum(1)[0].double() / relevant.sum()
    return PrecisionRecallCurve(recall, _precision_by_radius(total, relevant)[0])


def pr_curve_macro(counts: DistanceCounts) -> PrecisionRecallCurve:
    """Compute the mean over queries of precision and of recall at each radius.

    The point at r is the mean of `precision_within` and of `recall_within`: a query that finds nothing within r has
    precision 0 there. Queries without a relevant item are ignored.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).

    Returns:
        The curve; NaN if no query has a relevant item.
    """
    recall = torch.zeros(counts.total.shape[1], dtype=torch.float64, device=counts.total.device)
    precision = torch.zeros_like(recall)
    for block in query_blocks(counts):
        items, hits = block.total.cumsum(1), block.relevant.cumsum(1)
        valid = hits[:, -1] > 0
        items, hits = items[valid], hits[valid].double()
        precision += (hits / items.clamp_min(1)).sum(0)
        recall += (hits / hits[:, -1:]).sum(0)
    queries = (counts.relevant.sum(1) > 0).sum()
    return PrecisionRecallCurve(recall / queries, precision / queries)


@in_query_blocks
def auprc(counts: DistanceCounts) -> Tensor:
    """Compute the area under each query's own curve, by trapezoids from recall 0.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).

    Returns:
        float64 (q,); NaN if a query has no relevant item. Its mean over the other queries is the macro-averaged
        AUPRC.
    """
    precision = _precision_by_radius(counts.total, counts.relevant)
    heights = precision.clone()
    heights[:, 1:] += precision[:, :-1]
    heights[:, 0] += precision[:, 0]
    return row_sums(heights.mul_(counts.relevant)) / (2 * counts.relevant.sum(1))


def auprc_micro(counts: DistanceCounts) -> Tensor:
    """Compute the area under the curve of all pairs pooled, float64 (); NaN if no query has a relevant item.

    Queries with many relevant items dominate it, so it may order two methods differently from mAP.
    """
    return auprc(DistanceCounts(counts.total.sum(0, keepdim=True), counts.relevant.sum(0, keepdim=True)))[0]


def auprc_micro_without_start(counts: DistanceCounts) -> Tensor:
    """Compute the micro-averaged area as the code published with NPQ and GRH does, for comparison; float64 ().

    It has no starting point at recall 0, gives precision 0 to a radius that finds nothing, and omits the largest
    distance that occurs. It is a little smaller than `auprc_micro` if few relevant items are at the smallest distance,
    and 0 if all of them are at distance 0.
    """
    total, relevant = counts.total.sum(0), counts.relevant.sum(0)
    used = torch.nonzero(total).flatten()
    radii = int(used[-1]) if len(used) else 0
    hits = relevant.cumsum(0)[:radii].double()
    return torch.trapezoid(hits / total.cumsum(0)[:radii].clamp_min(1), hits) / relevant.sum()


def _precision_by_radius(total: Tensor, relevant: Tensor) -> Tensor:
    """Compute precision within each radius, float64 (q, D + 1).

    A radius without items has the precision of the first radius with items.
    """
    items, hits = total.cumsum(1), relevant.cumsum(1)
    has_items = items > 0
    precision = hits.double().div_(items.clamp_min_(1))
    first = has_items.long().argmax(1, keepdim=True)
    return torch.where(has_items, precision, precision.gather(1, first))
