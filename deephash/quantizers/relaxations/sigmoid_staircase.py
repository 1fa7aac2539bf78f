"""A staircase of sigmoids with continuation, as in Quantization Networks (Yang et al., CVPR 2019)."""

from typing import final

from torch import Tensor

from deephash.functional.annealing import check_rising, linear
from deephash.quantizers.relaxations.base import Relaxation


@final
class SigmoidStaircase(Relaxation):
    """2 σ(β m) - 1, whose β grows by equal amounts with the progress of training.

    A quantiser with several thresholds adds one such step for each, and Σ σ(β (z - t)) over the thresholds t of a
    projection is the paper's staircase: it rises from region number to region number, and tends to the number itself as
    β grows. The paper raises β in proportion to the epochs, from 0; here it starts at initial_scale, and rises linearly
    with the progress t. Known weakness: steep from early on, so thresholds that are misplaced at the start have less
    time to move than under a geometric rise (`Tanh`).

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    Args:
        initial_scale: β at progress 0; at 1 margins of their mean size pass half the gradient or more.
        final_scale: β at progress 1; 20 leaves the step above .995 from a margin of .3.

    Raises:
        InvalidInputError: a scale not above 0, or one that falls.

    References:
        Yang, Shen, Xing, Tian, Li, Deng, Huang & Hua, "Quantization networks", CVPR 2019, section 3.
    """

    def __init__(self, initial_scale: float = 1.0, final_scale: float = 20.0) -> None:
        super().__init__()
        check_rising(initial_scale, final_scale, "scale")
        self.initial_scale = initial_scale
        self.final_scale = final_scale

    def forward(self, margins: Tensor) -> Tensor:
        """2 σ(β · margins) - 1 at the present β."""
        scale = linear(self.initial_scale, self.final_scale, self.progress)
        # The same function, without the rounding by which 1 is subtracted from nearly 1.
        return (margins * scale / 2).tanh()
