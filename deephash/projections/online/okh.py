"""Online kernel hashing: passive-aggressive steps towards code pairs without loss (Huang, Yang & Zheng, IJCAI 2013)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.codes import hard_bits
from deephash.encoders.anchor_map import AnchorMap
from deephash.functional.unit_features import random_unit_directions
from deephash.projections.online.base import OnlineProjection, share_label
from deephash.validation import check_count, check_fraction, check_positive


def pair_loss(distance: int, k: int, similar: bool, alpha: float, beta: float) -> float:
    """Number of bits by which a pair misses its bound: at most αk for similar items, at least βk for others.

    Args:
        distance: Hamming distance between the codes of the pair.
        k: code length.
        similar: whether the items should be near.
        alpha: bound of similar pairs, as a share of the bits.
        beta: bound of other pairs.
    """
    return max(0.0, distance - alpha * k) if similar else max(0.0, beta * k - distance)


def lossless_codes(margins: Tensor, similar: bool, loss: float) -> Tensor:
    """Return the nearest code pair without loss, by flipping the ⌈loss⌉ bits with the smallest margins.

    For each bit to be changed, the item with the smaller margin changes.

    Args:
        margins: margins of the two items, floating (2, k).
        similar: whether differing bits must agree; otherwise equal bits must differ.
        loss: number of bits that are missing, above 0.

    Returns:
        Codes (2, k), ±1.
    """
    bits = hard_bits(margins)
    candidates = torch.nonzero((bits[0] != bits[1]) == similar).flatten()
    smallest, changing_item = margins.abs()[:, candidates].min(0)
    chosen = smallest.argsort(stable=True)[: math.ceil(loss)]
    target = bits.clone()
    target[changing_item[chosen], candidates[chosen]] ^= True
    return target.to(margins.dtype) * 2 - 1


def passive_aggressive_step(
    weights: Tensor, pair: Tensor, similar: bool, alpha: float, beta: float, aggressiveness: float
) -> Tensor | None:
    """Compute the change of W for a pair; None if its codes have no loss.

    The step leads to the nearest W whose margins prefer the lossless codes G to the current codes H by √R, where R is
    the loss in bits, but is not longer than C allows:
    W + τ X (G - H)ᵀ, τ = min(C, ℓ / ‖X (G - H)ᵀ‖²), ℓ = tr((H - G)ᵀ Wᵀ X) + √R.

    Args:
        weights: W (m, k).
        pair: the two items as rows, (2, m).
        similar: whether the items should be near.
        alpha: bound of similar pairs, as a share of the bits.
        beta: bound of other pairs.
        aggressiveness: C, the maximum of τ.

    Returns:
        (m, k).
    """
    margins = pair @ weights
    bits = hard_bits(margins)
    loss = pair_loss(int((bits[0] != bits[1]).sum()), len(margins[0]), similar, alpha, beta)
    if loss == 0:
        return None
    turn = lossless_codes(margins, similar, loss) - (bits.to(margins.dtype) * 2 - 1)
    violation = float(-(turn * margins).sum()) + math.sqrt(loss)
    step = pair.T @ turn
    return step * min(aggressiveness, violation / float(step.square().sum()))


@final
class OKH(OnlineProjection):
    """Online kernel hashing: learns kernel hyperplanes from pairs, with the smallest change that corrects their codes.

    Items are paired in the order of their arrival; a pair is similar if it shares a label. If the Hamming distance of a
    pair violates its bound, a passive-aggressive step moves the hyperplanes; otherwise nothing changes. Anchors and
    bandwidth of the kernel are set by the first batch.
    Known weakness: it looks at one pair at a time and forgets as fast as it learns. With ten classes, few pairs are
    similar. After a drift, the anchors are in the wrong place.

    Shape:
        features (n, d) → projections (n, k). The last item of an odd batch has no partner and is left out.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        anchors: number of anchors of the kernel; 300 as in the paper. Lowered to the rows of the first batch.
        alpha: share of bits in which similar items may differ; 0 in the authors' journal version.
        beta: share of bits in which other items must differ; .5 in the same version.
        aggressiveness: C, the longest step; .1 in the authors' code.

    Raises:
        InvalidInputError: anchors is below 1, alpha or beta is outside 0 to 1, or aggressiveness is not above 0.

    References:
        Huang, Yang & Zheng, "Online hashing", IJCAI 2013, and IEEE TNNLS 2017; Crammer et al., "Online
        passive-aggressive algorithms", JMLR 2006.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        anchors: int = 300,
        alpha: float = 0.0,
        beta: float = 0.5,
        aggressiveness: float = 0.1,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(anchors, "anchors")
        check_fraction(alpha, "alpha")
        check_fraction(beta, "beta")
        check_positive(aggressiveness, "aggressiveness")
        self.anchors = anchors
        self.alpha = alpha
        self.beta = beta
        self.aggressiveness = aggressiveness
        self.kernel = AnchorMap(input_dim, anchors, "random")
        self.directions = nn.Parameter(torch.zeros(anchors, output_dim))
        self.offsets = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """K(X) W + b."""
        kernel: Tensor = self.kernel(features)
        return kernel @ self.directions + self.offsets

    def function_weights(self) -> Tensor:
        """Return directions and offsets."""
        return torch.cat([self.directions.detach(), self.offsets.detach()[None]])

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        if len(features) < self.anchors:
            self.anchors = len(features)
            self.kernel = AnchorMap(self.input_dim, self.anchors, "random").to(self.directions)
            self.directions = nn.Parameter(self.directions.new_zeros(self.anchors, self.output_dim))
        self.kernel.fit(features, generator)
        start = random_unit_directions(self.anchors + 1, self.output_dim, generator)
        self.directions.copy_(start[:-1])
        self.offsets.copy_(start[-1])

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        pairs = len(features) // 2
        similar = share_label(labels[0 : 2 * pairs : 2], labels[1 : 2 * pairs : 2]).tolist()
        kernel = self.kernel(features[: 2 * pairs])
        inputs = torch.cat([kernel, torch.ones_like(kernel[:, :1])], 1).view(pairs, 2, -1)
        weights = self.function_weights().clone()
        for pair, is_similar in zip(inputs, similar, strict=True):
            step = passive_aggressive_step(weights, pair, is_similar, self.alpha, self.beta, self.aggressiveness)
            if step is not None:
                weights += step
        self.directions.copy_(weights[:-1])
        self.offsets.copy_(weights[-1])
