"""A staircase of sigmoids with continuation, as in Quantization Networks (Yang et al., CVPR 2019)."""

from typing import final

from torch import Tensor

from deephash.functional.annealing import check_rising, linear
from deephash.quantizers.relaxations.base import Relaxation


@final
class SigmoidStaircase(Relaxation):
    """2 σ(β m) - 1, where β grows linearly with the progress of training.

    A quantiser with several thresholds adds one such step for each. Σ σ(β (z - t)) over the thresholds t of a
    projection is the paper's staircase: it rises from region number to region number, and tends to the number itself as
    β grows. The paper raises β in proportion to the epochs, from 0; here it starts at initial_scale and rises linearly
    with the progress t. Known weakness: it is steep early, so misplaced thresholds have less time to move than with a
    geometric rise (`Tanh`).

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    Args:
        initial_scale: β at progress 0; at 1, margins of mean size pass half the gradient or more.
        final_scale: β at progress 1; with 20 the step exceeds .995 from a margin of .3.

    Raises:
        InvalidInputError: a scale is not above 0, or falls.

    References:
        Yang, Shen, Xing, Tian, Li, Deng, Huang & Hua, "Quantization networks", CVPR 2019, section 3.
    """

    def __init__(self, initial_scale: float = 1.0, final_scale: float = 20.0) -> None:
        super().__init__()
        check_rising(initial_scale, final_scale, "scale")
        self.initial_scale = initial_scale
        self.final_scale = final_scale

    def forward(self, margins: Tensor) -> Tensor:
        """Return 2 σ(β · margins) - 1 at the current β."""
        scale = linear(self.initial_scale, self.final_scale, self.progress)
        # The same function, without subtracting nearly equal numbers.
        return (margins * scale / 2).tanh()
