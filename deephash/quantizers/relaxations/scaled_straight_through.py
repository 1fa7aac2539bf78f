"""The straight-through estimator relative to the size of margins, as in XNOR-Net (Rastegari et al., ECCV 2016)."""

from typing import final

import torch
from torch import Tensor

from deephash.functional.surrogate_gradient import hard_step, learning_within
from deephash.quantizers.relaxations.base import Relaxation
from deephash.validation import check_positive


def mean_absolute_margin(margins: Tensor) -> Tensor:
    """Mean |margin| of each bit, of the last axis, over the items; 1 where all margins are 0.

    Returns:
        (b,), or a scalar for a scalar.
    """
    sizes = margins.detach().abs()
    if sizes.ndim and sizes.numel():
        sizes = sizes.flatten(0, -2).mean(0) if sizes.ndim > 1 else sizes
    return torch.where(sizes > 0, sizes, 1.0)


@final
class ScaledStraightThrough(Relaxation):
    """Hard bits forward; backward, the gradient of margins over their mean absolute size α in the batch, clipped.

    α·sign is the nearest that a multiple of signs comes to the margins of a bit, with α their mean absolute value, so a
    unit of a bit's sign is α of its margin: margins within clip·α learn, by 1/α of the gradient. Bits whose margins
    shrink or grow in training, or differ in size from bit to bit, then learn at the same pace, and as large a share of
    items does. α is taken for fixed by the gradient. Known weakness: α of a small batch is noise.

    Shape:
        margins (..., b) → ±1, the same shape and dtype.

    Args:
        clip: largest |margin| / α that still learns. At 1, more than half of normally distributed margins do.

    Raises:
        InvalidInputError: clip not above 0.

    References:
        Rastegari, Ordonez, Redmon & Farhadi, "XNOR-Net: ImageNet classification using binary convolutional neural
        networks", ECCV 2016, section 3.1.
    """

    def __init__(self, clip: float = 1.0) -> None:
        super().__init__()
        check_positive(clip, "clip")
        self.clip = clip

    def forward(self, margins: Tensor) -> Tensor:
        """±1 of margins by the zero rule."""
        return hard_step(margins, learning_within(margins / mean_absolute_margin(margins), self.clip))
