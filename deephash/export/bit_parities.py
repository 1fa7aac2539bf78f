"""Conversion of threshold quantisers to bit parities, which all export formats can express."""

import torch
from torch import Tensor, nn

from deephash.quantizers.base import Quantizer
from deephash.quantizers.threshold_encodings import bit_flips, natural_binary_encoding
from deephash.quantizers.vbq import VBQ


class BitParities(nn.Module):
    """Threshold quantiser that computes each bit from the parity of a count.

    A bit flips at each of its thresholds, so its value follows from the number of thresholds that the projection of
    its dimension reaches. The bits are exactly those of the converted quantiser, without branches or sorting.

    Args:
        dimensions: dimension of each bit, int64 (b,).
        thresholds: thresholds at which each bit flips, (b, F), padded with infinity.
        first: value of each bit below all its thresholds, bool (b,).
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
        """Quantise projections (n, k) to bits, bool (n, b)."""
        reached = projections[:, self.dimensions].unsqueeze(2) >= self.thresholds
        return (reached.to(torch.int32).sum(2) + self.first) % 2 == 1


def build_bit_parities(quantizer: Quantizer) -> BitParities | None:
    """Convert a fitted quantiser to bit parities; return None unless it consists of thresholds and an encoding."""
    thresholds = getattr(quantizer, "thresholds", None)
    if isinstance(quantizer, VBQ):
        encodings = {q: natural_binary_encoding(q) for q in range(1, quantizer.most_bits + 1)}
        encodings_by_dimension = [encodings.get(q) for q in quantizer.allocation.tolist()]
    elif isinstance(encoding := getattr(quantizer, "encoding", None), Tensor) and isinstance(thresholds, Tensor):
        encodings_by_dimension = [encoding] * quantizer.projection_dim
    else:
        return None
    assert isinstance(thresholds, Tensor)
    dimensions, values, first = [], [], []
    for dimension, encoding in enumerate(encodings_by_dimension):
        if encoding is None:  # A dimension without bits.
            continue
        ordered = thresholds.detach()[dimension, : len(encoding) - 1].sort().values
        for below, flips in bit_flips(encoding):
            dimensions.append(dimension)
            values.append(ordered[flips])
            first.append(below)
    filled = nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=float("inf"))
    return BitParities(torch.tensor(dimensions), filled, torch.tensor(first))
