"""A hasher from features to packed codes as one module, of operations that exported programs have."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deephash.codes import code_bytes
from deephash.export.bit_parities import bit_parities
from deephash.hashers.hasher import Hasher

# A byte's bits, the first the least, as deephash.codes packs them.
PLACES = tuple(1 << place for place in range(8))


class PackedProgram(nn.Module):
    """Features (n, d) → packed codes uint8 (n, ⌈b/8⌉); bits become bytes by arithmetic alone.

    Args:
        hasher: fitted, in evaluation mode.
    """

    places: Tensor

    def __init__(self, hasher: Hasher) -> None:
        super().__init__()
        self.encoder = hasher.encoder
        self.projection = hasher.projection
        parities = bit_parities(hasher.quantizer)
        self.quantizer = hasher.quantizer if parities is None else parities
        self.quantize: Callable[[Tensor], Tensor] = hasher.quantizer.quantize if parities is None else parities
        self.bits = hasher.bits
        self.register_buffer("places", torch.tensor(PLACES, dtype=torch.int32))

    def forward(self, features: Tensor) -> Tensor:
        """Packed codes."""
        bits = self.quantize(self.projection(self.encoder(features)))
        width = code_bytes(self.bits)
        padded = nn.functional.pad(bits.to(torch.int32), (0, 8 * width - self.bits))
        packed: Tensor = (padded.view(-1, width, 8) * self.places).sum(2).to(torch.uint8)
        return packed
