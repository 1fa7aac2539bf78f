"""A scan of codes by matrix products, for any processor."""

from typing import final

import torch
from torch import Tensor

from deephash.compression.linear_decoder import TINY, LinearDecoder, unpack_signs

# Items and queries per block: 8 MB of products.
BLOCK_ITEMS, BLOCK_QUERIES = 8192, 256


class ByteLengths:
    """Lengths of decoded vectors, quantised to 255 equal steps, one byte each.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), N at least 1.
        decoder: decoder for b bits.
    """

    def __init__(self, codes: Tensor, decoder: LinearDecoder) -> None:
        lengths = torch.cat(
            [decoder.lengths(unpack_signs(block, decoder.bits)) for block in torch.split(codes, BLOCK_ITEMS)]
        )
        self.shortest = float(lengths.min())
        self.step = max((float(lengths.max()) - self.shortest) / 255, TINY)
        self.steps = ((lengths - self.shortest) / self.step).round().clamp(0, 255).to(torch.uint8)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.shortest + self.steps[rows].float() * self.step


@final
class CodeProducts:
    """A database of codes that is unpacked block by block and multiplied with the queries.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        decoder: decoder for b bits, whose products neither overflow nor vanish.
        by_length: whether products are divided by the length of the decoded vector.
        lengths: stored lengths; None computes them in each search, if they are needed.
    """

    def __init__(self, codes: Tensor, decoder: LinearDecoder, by_length: bool, lengths: ByteLengths | None) -> None:
        self.codes, self.decoder, self.by_length, self.lengths = codes.contiguous(), decoder, by_length, lengths

    def read_codes(self) -> Tensor:
        """Return the codes, (N, ⌈b/8⌉)."""
        return self.codes

    def search(self, weights: Tensor, offsets: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the k items with the largest (offset + Σ ±weight) / length, as `TiledCodes.search`."""
        scores = torch.full((len(weights), k), -torch.inf)
        ids = torch.zeros(len(weights), k, dtype=torch.int64)
        for start in range(0, len(self.codes), BLOCK_ITEMS):
            estimates = unpack_signs(self.codes[start : start + BLOCK_ITEMS], self.decoder.bits)
            lengths = self._get_block_lengths(start, estimates)
            for rows in torch.split(torch.arange(len(weights)), BLOCK_QUERIES):
                block_scores = (weights[rows] @ estimates.T + offsets[rows, None]) / lengths
                best, places = block_scores.topk(min(k, len(estimates)), dim=1)
                # Earlier results come first, so that they win ties.
                merged = torch.cat([scores[rows], best], 1)
                order = merged.argsort(dim=1, descending=True, stable=True)[:, :k]
                scores[rows] = merged.gather(1, order)
                ids[rows] = torch.cat([ids[rows], places + start], 1).gather(1, order)
        return scores, ids

    def _get_block_lengths(self, start: int, estimates: Tensor) -> Tensor:
        if not self.by_length:
            return torch.ones(len(estimates))
        if self.lengths is not None:
            return self.lengths[start : start + len(estimates)]
        return self.decoder.lengths(estimates)
