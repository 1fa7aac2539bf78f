"""Differentiable selection between 0 and 1 for each bit, as in DCHMT (Tu et al., ACM MM 2022)."""

from typing import final

import torch
from torch import Tensor

from deephash.quantizers.relaxations.base import Relaxation


def select_by_softmax(margins: Tensor) -> Tensor:
    """Return the probabilities of bit 0 and bit 1, a softmax over the logits -m/2 and m/2, (...) → (..., 2)."""
    return torch.stack([-margins / 2, margins / 2], -1).softmax(-1)


@final
class TwoWaySelection(Relaxation):
    """tanh(m / 2): the probability of bit 1 minus that of bit 0, in a softmax over two logits whose difference is m.

    DCHMT's hash layer gives two logits per bit, and the larger one is selected: differentiably in training by a
    softmax, by their order afterwards. The softmax depends only on the difference of the logits, so one projection per
    bit, their difference, gives the same codes. Known weakness: as in `PlainTanh`, only the loss pulls codes to bits.

    Shape:
        margins, any shape → the same shape, in [-1, 1].

    References:
        Tu, Liu, Lin, Hong & Wang, "Differentiable cross-modal hashing via multimodal transformers", ACM MM 2022.
    """

    def forward(self, margins: Tensor) -> Tensor:
        """Return the difference of the two probabilities."""
        return (margins / 2).tanh()
