"""tanh of fixed steepness, the activation of most hash layers (as in CSQ, Yuan et al., CVPR 2020)."""

from typing import final

from torch import Tensor

from deephash.quantizers.relaxations.base import Relaxation


@final
class PlainTanh(Relaxation):
    """tanh(m): codes in (-1, 1) of one and the same shape throughout training.

    What takes codes to bits is left to the loss, as a penalty on |u| - 1 or targets of ±1; `Tanh` sharpens by itself.
    It stands as well for papers whose hash layer gives its real outputs to the loss (DSH, DPSH, DTSH, DPN, OrthoHash),
    as relaxed codes lie in [-1, 1]. Known weakness: codes that no loss pulls to ±1 lose at the thresholds whatever they
    encode by their size; and far from a threshold gradients fade.

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    References:
        Yuan, Wang, Zhang, Tay, Jie, Liu & Feng, "Central similarity quantization for efficient image and video
        retrieval", CVPR 2020, whose hash layer it is.
    """

    def forward(self, margins: Tensor) -> Tensor:
        """The hyperbolic tangent of margins."""
        return margins.tanh()
