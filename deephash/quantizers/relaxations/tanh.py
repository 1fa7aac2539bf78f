"""tanh with continuation, as in HashNet (Cao, Long, Wang & Yu, ICCV 2017)."""

from typing import final

from torch import Tensor

from deephash.functional.annealing import check_rising, geometric
from deephash.quantizers.relaxations.base import Relaxation


@final
class Tanh(Relaxation):
    """tanh(β m), where β grows with the progress of training until the function is almost a step.

    A smooth problem is solved first and gradually sharpened (HashNet, Algorithm 1), so training starts with gradients
    everywhere and ends near the stored codes. The paper requires only that β rise from 1 towards infinity; here it
    rises geometrically with the progress t, β = initial_scale^(1-t) · final_scale^t, so that equal steps of training
    sharpen by equal factors. For any finite β, relaxed and hard bits differ a little.

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    Args:
        initial_scale: β at progress 0; 1 as in the paper.
        final_scale: β at progress 1; with 10, tanh exceeds .995 from a margin of .3.

    Raises:
        InvalidInputError: a scale is not above 0, or falls.

    References:
        Cao, Long, Wang & Yu, "HashNet: deep learning to hash by continuation", ICCV 2017, Eq. 5 and Algorithm 1.
    """

    def __init__(self, initial_scale: float = 1.0, final_scale: float = 10.0) -> None:
        super().__init__()
        check_rising(initial_scale, final_scale, "scale")
        self.initial_scale = initial_scale
        self.final_scale = final_scale

    def forward(self, margins: Tensor) -> Tensor:
        """Return tanh(β · margins) at the current β."""
        return (margins * geometric(self.initial_scale, self.final_scale, self.progress)).tanh()
