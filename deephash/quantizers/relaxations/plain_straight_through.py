"""The straight-through estimator as first proposed, without clipping (Hinton, 2012; GreedyHash, NeurIPS 2018)."""

from typing import final

from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step
from deephash.quantizers.relaxations.base import Relaxation


@final
class PlainStraightThrough(Relaxation):
    """Forward: hard bits. Backward: the gradient passes unchanged, however large the margin is.

    Every item continues to learn, whereas the clipped estimator (`StraightThrough`) stops at large margins. This is
    also the rule of GreedyHash: a step of gradient descent on the bits, followed by the sign, is the greedy update of
    the bits themselves. Known weakness: margins can grow without limit, as this does not change the codes; GreedyHash
    adds a loss that pulls them towards ±1.

    Shape:
        margins, any shape → ±1, the same shape and dtype.

    References:
        Bengio, Léonard & Courville, "Estimating or propagating gradients through stochastic neurons for conditional
        computation", 2013, which names Hinton's lectures of 2012. Su, Zhang, Han & Tian, "Greedy Hash: towards fast
        optimization for accurate hash coding in CNN", NeurIPS 2018, section 3.
    """

    def forward(self, margins: Tensor) -> Tensor:
        """Return ±1 of the margins by the zero rule."""
        return hard_step(margins, margins)
