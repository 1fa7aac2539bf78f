"""The clipped straight-through estimator (Bengio, Léonard & Courville, 2013; Hubara et al., NIPS 2016)."""

from typing import final

from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step, learning_within
from deephash.quantizers.relaxations.base import Relaxation
from deephash.validation import check_positive


@final
class StraightThrough(Relaxation):
    """Forward: hard bits. Backward: the gradient passes unchanged if |margin| <= clip and is 0 beyond.

    Training thus sees exactly the stored bits. The gradient is that of the clipped identity max(-clip, min(clip, m)),
    not that of the forward value, so the estimator is biased. A margin outside [-clip, clip] no longer learns, so scale
    projections to about unit size before joint training.

    Shape:
        margins, any shape → ±1, the same shape and dtype.

    Args:
        clip: largest |margin| that still learns; 1 as in Hubara et al., Eq. 4.

    Raises:
        InvalidInputError: clip is not above 0.

    References:
        Bengio, Léonard & Courville, "Estimating or propagating gradients through stochastic neurons for conditional
        computation", 2013. Hubara, Courbariaux, Soudry, El-Yaniv & Bengio, "Binarized neural networks", NIPS 2016.
    """

    def __init__(self, clip: float = 1.0) -> None:
        super().__init__()
        check_positive(clip, "clip")
        self.clip = clip

    def forward(self, margins: Tensor) -> Tensor:
        """Return ±1 of the margins by the zero rule."""
        return hard_step(margins, learning_within(margins, self.clip))
