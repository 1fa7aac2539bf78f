"""Quantisers of several thresholds a dimension in the one form that all exported programs have."""

import torch
from torch import Tensor, nn

from deephash.quantizers.base import Quantizer
from deephash.quantizers.threshold_encodings import bit_flips, natural_binary_encoding
from deephash.quantizers.vbq import VBQ


class BitParities(nn.Module):
    """Each bit is the parity of the thresholds that its dimension's projection reaches.

    Beyond a threshold at which a bit flips it is the other one. So this gives a threshold quantiser's bits exactly,
    with neither branches nor sorting.

    Args:
        dimensions: of each bit, int64 (b,).
        thresholds: at which each bit flips, (b, F), filled up with infinity.
        first: each bit below all of them, bool (b,).
    """

    dimensions: Tensor
    thresholds: Tensor
    first: Tensor

    def __init__(self, dimensions: Tensor, thresholds: Tensor, first: Tensor) -> None:
        super().__init__()
        self.register_buffer("dimensions", dimensions)
        self.register_buffer("thresholds", thresholds)
        self.register_buffer("first", first.to(torch.int32))

    def forward(self, projections: Tensor) -> Tensor:
        """Bits, (n, k) → bool (n, b)."""
        reached = projections[:, self.dimensions].unsqueeze(2) >= self.thresholds
        return (reached.to(torch.int32).sum(2) + self.first) % 2 == 1


def bit_parities(quantizer: Quantizer) -> BitParities | None:
    """A fitted quantiser as parities; None for one that is not made of thresholds with an encoding."""
    thresholds = getattr(quantizer, "thresholds", None)
    if isinstance(quantizer, VBQ):
        encodings = {q: natural_binary_encoding(q) for q in range(1, quantizer.most_bits + 1)}
        of_dimension = [encodings.get(q) for q in quantizer.allocation.tolist()]
    elif isinstance(encoding := getattr(quantizer, "encoding", None), Tensor) and isinstance(thresholds, Tensor):
        of_dimension = [encoding] * quantizer.projection_dim
    else:
        return None
    assert isinstance(thresholds, Tensor)
    dimensions, values, first = [], [], []
    for dimension, own in enumerate(of_dimension):
        if own is None:  # A dimension without bits.
            continue
        ordered = thresholds.detach()[dimension, : len(own) - 1].sort().values
        for below, flips in bit_flips(own):
            dimensions.append(dimension)
            values.append(ordered[flips])
            first.append(below)
    filled = nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=float("inf"))
    return BitParities(torch.tensor(dimensions), filled, torch.tensor(first))
