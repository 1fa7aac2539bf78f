"""A hasher as one module from features to packed codes, with only operations that can be exported."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deephash.codes import code_bytes
from deephash.export.bit_parities import build_bit_parities
from deephash.hashers.hasher import Hasher

# Values of the bits of a byte, least significant first, as deephash.codes packs them.
PLACES = tuple(1 << place for place in range(8))


class PackedProgram(nn.Module):
    """Features (n, d) → packed codes uint8 (n, ⌈b/8⌉); bits are packed with arithmetic only.

    Args:
        hasher: fitted hasher in evaluation mode.
    """

    places: Tensor

    def __init__(self, hasher: Hasher) -> None:
        super().__init__()
        self.encoder = hasher.encoder
        self.projection = hasher.projection
        parities = build_bit_parities(hasher.quantizer)
        self.quantizer = hasher.quantizer if parities is None else parities
        self.quantize: Callable[[Tensor], Tensor] = hasher.quantizer.quantize if parities is None else parities
        self.bits = hasher.bits
        self.register_buffer("places", torch.tensor(PLACES, dtype=torch.int32))

    def forward(self, features: Tensor) -> Tensor:
        """Encode features to packed codes."""
        bits = self.quantize(self.projection(self.encoder(features)))
        width = code_bytes(self.bits)
        padded = nn.functional.pad(bits.to(torch.int32), (0, 8 * width - self.bits))
        packed: Tensor = (padded.view(-1, width, 8) * self.places).sum(2).to(torch.uint8)
        return packed
