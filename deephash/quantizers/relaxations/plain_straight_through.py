"""The straight-through estimator as first proposed, without clipping (Hinton, 2012; GreedyHash, NeurIPS 2018)."""

from typing import final

from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step
from deephash.quantizers.relaxations.base import Relaxation


@final
class PlainStraightThrough(Relaxation):
    """Hard bits forward; backward, the gradient passes unchanged, however far the margin is.

    Every item goes on learning, which the clipped estimator (`StraightThrough`) ends where the margin is large. It is
    also the rule of GreedyHash: a step of gradient descent on the bits, followed by the sign, is the greedy update of
    the bits themselves. Known weakness: nothing keeps margins from growing without end, as the codes do not change with
    them; GreedyHash adds a loss that pulls them towards ±1.

    Shape:
        margins, any shape → ±1, the same shape and dtype.

    References:
        Bengio, Léonard & Courville, "Estimating or propagating gradients through stochastic neurons for conditional
        computation", 2013, which names Hinton's lectures of 2012. Su, Zhang, Han & Tian, "Greedy Hash: towards fast
        optimization for accurate hash coding in CNN", NeurIPS 2018, section 3.
    """

    def forward(self, margins: Tensor) -> Tensor:
        """±1 of margins by the zero rule."""
        return hard_step(margins, margins)
