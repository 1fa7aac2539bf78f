"""Layout of packed codes for `triton_planes`: words that hold one bit of 32 items."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.codes import pack, unpack

# Words of a block that a program reads at once, one for each thread of a warp.
LANES = 32
# Bits that are counted at once; longer codes are counted in chunks.
CHUNK = 64
CHUNK_ROWS = 32
# Blocks of a program.
STEPS = 64
# A grid has at most 65,535 programs on its second axis.
MAX_PARTS = 2**15


def row_count(bits: int) -> int:
    """Return the number of rows of a block for codes of b bits: b, rounded up to whole chunks."""
    return -(-bits // CHUNK_ROWS) * CHUNK_ROWS


def chunk_size(bits: int) -> int:
    """Return the number of rows that are counted at once."""
    return CHUNK if row_count(bits) == CHUNK else CHUNK_ROWS


def pack_words(bits: Tensor) -> Tensor:
    """Pack bool (..., n), n a multiple of 32, into int32 words (..., n / 32); the first item is the lowest bit."""
    return pack(bits.flatten(0, -2)).view(torch.int32).view(*bits.shape[:-1], -1)


def query_flips(codes: Tensor, bits: int) -> Tensor:
    """Return the bits of packed queries (q, B) as int32 (q, rows): -1 for a set bit, else 0."""
    flips = torch.zeros(len(codes), row_count(bits), dtype=torch.int32, device=codes.device)
    flips[:, :bits] = -unpack(codes, bits).to(torch.int32)
    return flips


@dataclass(frozen=True)
class BlockedCodes:
    """Codes in blocks of 32 * LANES items.

    Args:
        planes: int32 (blocks, rows, LANES); bit i of word w of row r is bit r of item 32 w + i of the block.
        valid: int32 (blocks, LANES), which places contain an item.
        bits: code length b.
    """

    planes: Tensor
    valid: Tensor
    bits: int

    @property
    def places(self) -> int:
        """Number of places of items, 32 * LANES for each block."""
        return 32 * self.valid.numel()

    @classmethod
    def empty(cls, places: int, bits: int, device: torch.device) -> "BlockedCodes":
        """Return blocks for at least this number of places, all without an item."""
        blocks = -(-places // (32 * LANES))
        planes = torch.zeros(blocks, row_count(bits), LANES, dtype=torch.int32, device=device)
        return cls(planes, torch.zeros(blocks, LANES, dtype=torch.int32, device=device), bits)

    @classmethod
    def from_codes(
        cls, codes: Tensor, bits: int, valid: Tensor | None = None, block_bytes: int = 2**28
    ) -> "BlockedCodes":
        """Lay out packed codes uint8 (N, B); item i is at place i.

        Args:
            codes: packed codes.
            bits: code length b.
            valid: bool (N,), the places with an item; None for all.
            block_bytes: memory of bits that are laid out at once.
        """
        laid = cls.empty(len(codes), bits, codes.device)
        step = max(1, block_bytes // (64 * LANES * row_count(bits)))
        for first in range(0, len(laid.planes), step):
            part = slice(first * 32 * LANES, (first + step) * 32 * LANES)
            laid.write(first, codes[part], None if valid is None else valid[part])
        return laid

    def write(self, first: int, codes: Tensor, valid: Tensor | None = None) -> None:
        """Write packed codes (n, B) into the blocks from `first` on; the rest of the last block has no items."""
        blocks = -(-len(codes) // (32 * LANES))
        rows = torch.zeros(self.planes.shape[1], blocks * 32 * LANES, dtype=torch.bool, device=codes.device)
        rows[: self.bits, : len(codes)] = unpack(codes, self.bits).T
        own = slice(first, first + blocks)
        self.planes[own] = pack_words(rows).view(-1, blocks, LANES).transpose(0, 1)
        held = rows[0].fill_(False)
        held[: len(codes)] = True if valid is None else valid
        self.valid[own] = pack_words(held[None]).view(blocks, LANES)


def steps_of(blocks: int) -> int:
    """Return the number of blocks of a program."""
    return max(STEPS, -(-blocks // MAX_PARTS))


def split_parts(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Split the blocks of each label into parts for programs.

    Args:
        blocks: int64 (labels,), the number of blocks of each label, in order.

    Returns:
        First block and end of each part, int32 (parts, 2), and the label of each part, int64 (parts,).
    """
    steps = steps_of(int(blocks.sum()))
    counts = (blocks + steps - 1) // steps
    label = torch.repeat_interleave(counts)
    within = torch.arange(len(label), device=blocks.device) - (counts.cumsum(0) - counts)[label]
    ends = blocks.cumsum(0)
    first = (ends - blocks)[label] + within * steps
    return torch.stack([first, torch.minimum(first + steps, ends[label])], 1).to(torch.int32), label


def group_by_label(codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Order codes by label, so that each label starts a block.

    Args:
        codes: packed codes uint8 (N, B).
        labels: int64 (N,).

    Returns:
        Codes with gaps uint8 (places, B), places with an item bool (places,), the labels, and the number of blocks of
        each of them, int64.
    """
    order = labels.argsort(stable=True)
    names, counts = torch.unique_consecutive(labels[order], return_counts=True)
    blocks = -(-counts // (32 * LANES))
    shift = (blocks.cumsum(0) - blocks) * (32 * LANES) - (counts.cumsum(0) - counts)
    places = torch.arange(len(order), device=codes.device) + torch.repeat_interleave(shift, counts)
    size = int(blocks.sum()) * 32 * LANES
    grouped = codes.new_zeros(size, codes.shape[1])
    grouped[places] = codes[order]
    valid = torch.zeros(size, dtype=torch.bool, device=codes.device)
    valid[places] = True
    return grouped, valid, names, blocks
