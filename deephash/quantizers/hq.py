"""Hierarchical quantisation: the second layer of anchor graph hashing (Liu, Wang, Kumar & Chang, ICML 2011)."""

from typing import final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import anchor_graph_weights, kmeans_anchors
from deephash.io.progress import track
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.threshold_encodings import hierarchical_encoding
from deephash.quantizers.threshold_quantizer import ThresholdQuantizer
from deephash.validation import check_count


def second_thresholds(values: Tensor, weights: Tensor, anchors: Tensor) -> Tensor:
    """Compute the thresholds b- <= 0 <= b+ that cut each side of 0 again (section 4).

    Let y be the values, 1+ and 1- the indicators of y >= 0 and y < 0, and n+ and n- the numbers of these values. The
    second bit relaxes to f = |y| - b+ 1+ + b- 1-. The graph of anchor weights Z, with column sums Λ, has the Laplacian
    L = I - Z Λ⁻¹ Zᵀ. Among all f whose sum is 0, the one that varies least over the graph, by fᵀ L f, has
    c = b+ + b- = 1+ᵀ L |y| / 1+ᵀ L 1+, so b+ = (Σ |y| + n- c) / n and b- = (n+ c - Σ |y|) / n. If the two sides mirror
    each other, c is 0 and the thresholds are ± the mean of |y|.

    Args:
        values: y, floating (n,).
        weights: the s nonzero entries in each row of Z, (n, s).
        anchors: column of each of these entries, int64 (n, s).

    Returns:
        float64 (2,), b- and b+. A threshold on the wrong side of 0 is moved to 0, which changes no bit.
    """
    positive, size = values >= 0, values.abs().double()
    n, above = len(values), int(positive.sum())
    columns, shares = anchors.flatten(), weights.double()
    degrees = torch.bincount(columns, shares.flatten()).clamp_min(torch.finfo(torch.float64).tiny)
    sides = torch.bincount(columns, (shares * positive[:, None]).flatten())
    sizes = torch.bincount(columns, (shares * size[:, None]).flatten())
    across = above - (sides.square() / degrees).sum()
    # If no edge joins the two sides, every c has the same cost.
    c = (size[positive].sum() - (sides * sizes / degrees).sum()) / across if across > 1e-9 * n else 0.0
    low, high = (above * c - size.sum()) / n, (size.sum() + (n - above) * c) / n
    return torch.stack([low.clamp_max(0), high.clamp_min(0)])


@final
class HQ(ThresholdQuantizer):
    """Two bits per projection: its side of 0, and whether it lies beyond the second threshold of that side.

    The second thresholds make the relaxed second bits balanced, and as equal as possible between neighbours in an
    anchor graph, which joins rows through k-means centres. The regions have codes 01, 00, 10, 11 from the lowest to the
    highest and are ranked by Hamming distance. Known weakness: the two outermost regions differ in one bit, like
    neighbouring ones (Kong & Li, AAAI 2012), and the first threshold still cuts where projections are densest.

    The paper builds the graph over features, and its projections are the eigenfunctions of that graph. Here the graph
    is over the given projections, so that any projections can be used. For eigenfunctions, the thresholds of the two
    graphs differ by a few per cent, and mAP on CIFAR-10 GIST by less than .001.

    Shape:
        projections (n, b/2) → bits (n, b).

    Args:
        bits: code length b, an even number.
        anchors: number of k-means anchors m of the graph; 300 as in the paper, fewer if there are fewer rows.
        nearest: number of anchors s that a row is joined to; 2, the smallest value in the paper.
        relaxation: stand-in for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: the number of bits is odd, or anchors or nearest is below 1.

    References:
        Liu, Wang, Kumar & Chang, "Hashing with graphs", ICML 2011, section 4.
    """

    def __init__(self, bits: int, anchors: int = 300, nearest: int = 2, relaxation: Relaxation | None = None) -> None:
        super().__init__(bits, hierarchical_encoding(), relaxation)
        check_count(anchors, "anchors")
        check_count(nearest, "nearest")
        self.anchors = anchors
        self.nearest = nearest

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        count = min(self.anchors, len(projections))
        centres = kmeans_anchors(projections, count, generator)
        weights, ids, _ = anchor_graph_weights(projections, centres, min(self.nearest, count))
        self.thresholds[:, 1] = 0
        for j in track(range(self.projection_dim), "HQ"):
            self.thresholds[j, 0::2] = second_thresholds(projections[:, j], weights, ids).to(self.thresholds)
