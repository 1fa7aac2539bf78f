"""The objective of ITQ on the projections of a batch (Gong & Lazebnik, CVPR 2011)."""

from typing import final

import torch
from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


def sign_error(projections: Tensor) -> Tensor:
    """The minimum of ‖B - α V‖² / (n k) over α, with B = sign(V).

    α is Σ|v| / Σv², which gives 1 - (Σ|v|)² / (n k Σv²), a number in [0, 1) at any scale of V.

    Args:
        projections: V, floating (n, k).

    Returns:
        A scalar; 1, without a gradient, if all projections are 0.
    """
    squares = projections.square().sum().clamp_min(torch.finfo(projections.dtype).tiny)
    return 1 - projections.abs().sum() / squares * projections.abs().sum() / projections.numel()


@final
class ITQError(Loss):
    """Quantisation error of ITQ: moves projections to the corners of a cube by minimising ‖B - V‖² with B = sign(V).

    The error is 0 if all projections have the same magnitude, so it evens out their variances and empties the space
    around 0. In the paper, V is only rotated: in the error n k + ‖V‖² - 2 Σ|v|, only Σ|v| changes. Here projections
    could also shrink, so V is scaled by the best factor for the batch.
    Known weakness: it assumes thresholds at 0 and one bit per projection, and does not use neighbours.

    Shape:
        projections (n, k) → scalar in [0, 1].

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011, Eq. 2.
    """

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The error per entry of B."""
        return sign_error(batch.projections)
