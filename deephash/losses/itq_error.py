"""ITQ's own objective, on the projections of a batch (Gong & Lazebnik, CVPR 2011)."""

from typing import final

import torch
from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


def sign_error(projections: Tensor) -> Tensor:
    """Least ‖B - α V‖² / (n k) over α, with B = sign(V).

    α is Σ|v| / Σv², which leaves 1 - (Σ|v|)² / (n k Σv²), a number in [0, 1) whatever the scale of V.

    Args:
        projections: V, floating (n, k).

    Returns:
        A scalar; 1, without a gradient, where all projections are 0.
    """
    squares = projections.square().sum().clamp_min(torch.finfo(projections.dtype).tiny)
    return 1 - projections.abs().sum() / squares * projections.abs().sum() / projections.numel()


@final
class ITQError(Loss):
    """How far projections are from corners of one cube: ‖B - V‖² with B = sign(V).

    It is 0 where all projections have one size, so it evens out their variances and empties the space about 0. Scale is
    the batch's best: the paper's V has a fixed scale, which cannot matter while V is only rotated, as the error is then
    n k + ‖V‖² - 2 Σ|v| and only Σ|v| changes. Where projections can shrink too it would. Known weakness: it keeps to
    thresholds of 0 and one bit a projection, and knows nothing of neighbours.

    Shape:
        projections (n, k) → scalar in [0, 1].

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011, Eq. 2.
    """

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The error, per entry of B."""
        return sign_error(batch.projections)
