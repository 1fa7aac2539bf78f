"""Hierarchical quantisation: the second layer of anchor graph hashing (Liu, Wang, Kumar & Chang, ICML 2011)."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import anchor_graph_weights, kmeans_anchors
from deephash.io.progress import track
from deephash.quantizers.base import Quantizer
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.threshold_encodings import bit_margins, encoded_bits, hierarchical_encoding
from deephash.ranking.distance import Hamming
from deephash.validation import check_bits_of_projections, check_count

BITS_PER_PROJECTION = 2


def second_thresholds(values: Tensor, weights: Tensor, anchors: Tensor) -> Tensor:
    """The thresholds b- <= 0 <= b+ by which each side of 0 is cut once more (section 4).

    With y the values, 1+ and 1- the indicators of y >= 0 and y < 0, and n+ and n- their numbers, the second bit
    relaxes to f = |y| - b+ 1+ + b- 1-. Of all f whose sum is 0, the one that varies least over the graph, by
    fᵀ L f with L = I - Z Λ⁻¹ Zᵀ, has c = b+ + b- = 1+ᵀ L |y| / 1+ᵀ L 1+, hence b+ = (Σ |y| + n- c) / n and
    b- = (n+ c - Σ |y|) / n.
    Where the two sides mirror each other c is 0, and the thresholds are ± the mean of |y|.

    Args:
        values: y, floating (n,).
        weights: of Z, (n, s).
        anchors: their columns in Z, int64 (n, s).

    Returns:
        float64 (2,), b- and b+; a threshold on the wrong side of 0 is moved to 0, which leaves all bits as they were.
    """
    positive, size = values >= 0, values.abs().double()
    n, above = len(values), int(positive.sum())
    columns, shares = anchors.flatten(), weights.double()
    degrees = torch.bincount(columns, shares.flatten()).clamp_min(torch.finfo(torch.float64).tiny)
    sides = torch.bincount(columns, (shares * positive[:, None]).flatten())
    sizes = torch.bincount(columns, (shares * size[:, None]).flatten())
    across = above - (sides.square() / degrees).sum()
    # Without an edge between the sides any c costs the same.
    c = (size[positive].sum() - (sides * sizes / degrees).sum()) / across if across > 1e-9 * n else 0.0
    low, high = (above * c - size.sum()) / n, (size.sum() + (n - above) * c) / n
    return torch.stack([low.clamp_max(0), high.clamp_min(0)])


@final
class HQ(Quantizer):
    """Two bits a dimension: the side of 0, then whether the projection lies beyond that side's own threshold.

    The second thresholds are such that relaxed second bits vary least between neighbours in an anchor graph and are
    balanced. Regions are coded 01, 00, 10, 11 from the lowest to the highest and ranked by Hamming distance.
    Known weakness: the two outermost regions differ in one bit, like neighbouring ones (Kong & Li, AAAI 2012), and the
    first threshold still cuts where projections are densest.

    The paper's graph is over features and its dimensions are that graph's eigenfunctions. Here it is over the given
    projections, so that the rule serves any of them. For eigenfunctions the two graphs' thresholds differ by a few per
    cent, and mAP on CIFAR-10 GIST by less than .001.

    Shape:
        projections (n, b/2) → bits (n, b).

    Args:
        bits: code length b, an even number.
        anchors: number of k-means anchors m of the graph; 300 as in the paper, fewer where there are fewer rows.
        nearest: anchors s that a row is joined to; 2, the paper's least.
        relaxation: what stands for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: an odd number of bits; anchors or nearest below 1.

    References:
        Liu, Wang, Kumar & Chang, "Hashing with graphs", ICML 2011, section 4.
    """

    def __init__(self, bits: int, anchors: int = 300, nearest: int = 2, relaxation: Relaxation | None = None) -> None:
        super().__init__(bits)
        check_bits_of_projections(bits, BITS_PER_PROJECTION)
        check_count(anchors, "anchors")
        check_count(nearest, "nearest")
        self.anchors = anchors
        self.nearest = nearest
        self.relaxation = StraightThrough() if relaxation is None else relaxation
        self.encoding = hierarchical_encoding()
        self.thresholds = nn.Parameter(torch.zeros(self.projection_dim, 3))

    @property
    def projection_dim(self) -> int:
        """Half as many projections as bits."""
        return self.bits // BITS_PER_PROJECTION

    @property
    def distance(self) -> Hamming:
        """Hamming distance."""
        return Hamming(self.bits)

    def forward(self, projections: Tensor) -> Tensor:
        """Relaxed bits of each bit's distance from the nearest threshold at which it flips."""
        relaxed: Tensor = self.relaxation(bit_margins(*self.in_units(projections, self.thresholds), self.encoding))
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """The relaxed bits."""
        return self.forward(projections)

    def quantize(self, projections: Tensor) -> Tensor:
        """The bits of the regions that projections lie in."""
        return encoded_bits(projections, self.thresholds, self.encoding)

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        count = min(self.anchors, len(projections))
        centres = kmeans_anchors(projections, count, generator)
        weights, ids, _ = anchor_graph_weights(projections, centres, min(self.nearest, count))
        self.thresholds[:, 1] = 0
        for j in track(range(self.projection_dim), "HQ"):
            self.thresholds[j, 0::2] = second_thresholds(projections[:, j], weights, ids).to(self.thresholds)
