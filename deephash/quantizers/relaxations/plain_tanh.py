"""tanh of fixed steepness, the activation of most hash layers (as in CSQ, Yuan et al., CVPR 2020)."""

from typing import final

from torch import Tensor

from deephash.quantizers.relaxations.base import Relaxation


@final
class PlainTanh(Relaxation):
    """tanh(m), the same function throughout training.

    Only the loss drives codes to bits, by a penalty on |u| - 1 or targets of ±1; `Tanh` sharpens without such a loss.
    `PlainTanh` also serves papers whose hash layer passes its real outputs to the loss (DSH, DPSH, DTSH, DPN,
    OrthoHash), because relaxed codes must lie in [-1, 1]. Known weakness: without a loss that pulls codes to ±1, the
    thresholds discard the information in the size of relaxed codes; and far from a threshold gradients vanish.

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    References:
        Yuan, Wang, Zhang, Tay, Jie, Liu & Feng, "Central similarity quantization for efficient image and video
        retrieval", CVPR 2020, has this hash layer.
    """

    def forward(self, margins: Tensor) -> Tensor:
        """Return the hyperbolic tangent of the margins."""
        return margins.tanh()
