"""The straight-through estimator relative to the size of margins, as in XNOR-Net (Rastegari et al., ECCV 2016)."""

from typing import final

import torch
from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step, learning_within
from deephash.quantizers.relaxations.base import Relaxation
from deephash.validation import check_positive


def mean_absolute_margin(margins: Tensor) -> Tensor:
    """Compute mean |margin| of each bit (last axis) over the items; 1 if all margins are 0.

    Returns:
        (b,), or a scalar for a scalar.
    """
    sizes = margins.detach().abs()
    if sizes.ndim and sizes.numel():
        sizes = sizes.flatten(0, -2).mean(0) if sizes.ndim > 1 else sizes
    return torch.where(sizes > 0, sizes, 1.0)


@final
class ScaledStraightThrough(Relaxation):
    """Forward: hard bits. Backward: the gradient of margins over their mean absolute value α in the batch, clipped.

    α·sign is the best approximation of a bit's margins by a multiple of their signs, so one unit of the sign
    corresponds to α of the margin: margins within clip·α learn, with 1/α of the gradient. Bits whose margins shrink or
    grow in training, or differ in scale, then learn at the same rate and with the same share of items. The gradient
    treats α as constant. Known weakness: α of a small batch is noisy.

    Shape:
        margins (..., b) → ±1, the same shape and dtype.

    Args:
        clip: largest |margin| / α that still learns. At 1, more than half of normally distributed margins do.

    Raises:
        InvalidInputError: clip is not above 0.

    References:
        Rastegari, Ordonez, Redmon & Farhadi, "XNOR-Net: ImageNet classification using binary convolutional neural
        networks", ECCV 2016, section 3.1.
    """

    def __init__(self, clip: float = 1.0) -> None:
        super().__init__()
        check_positive(clip, "clip")
        self.clip = clip

    def forward(self, margins: Tensor) -> Tensor:
        """Return ±1 of the margins by the zero rule."""
        return hard_step(margins, learning_within(margins / mean_absolute_margin(margins), self.clip))
