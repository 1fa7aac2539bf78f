"""Statistics of the bits of codes.

The bits of good codes are uncorrelated and balanced, so that each is 1 for half of the items (Weiss, Torralba & Fergus,
NIPS 2008, Section 2).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.codes import check_codes, unpack
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_bits

# A bit that is 1 for less than a tenth or more than nine tenths of the items carries less than .47 bit.
UNBALANCED_SHARE = 0.1
# Two balanced bits with this correlation agree on 9 of 10 items, or disagree if it is negative. They share more than
# half a bit of information.
LARGE_CORRELATION = 0.8
# Bytes of unpacked float bits per block, enough for a matrix product at full speed.
BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class BitDiagnostics:
    """Statistics of the bits of n codes.

    Args:
        bits: code length b.
        items: number of codes n.
        ones: float64 (b,), share of items whose bit is 1.
        entropy: float64 (b,), entropy of each bit, from 0 (constant) to 1 (balanced).
        correlation: float64 (b, b), Pearson correlation of the bits; NaN in the rows and columns of constant bits.
        distinct_codes: number of different codes.
    """

    bits: int
    items: int
    ones: Tensor
    entropy: Tensor
    correlation: Tensor
    distinct_codes: int

    @property
    def dead_bits(self) -> list[int]:
        """Bits that are equal for all items."""
        return torch.nonzero((self.ones == 0) | (self.ones == 1)).flatten().tolist()

    @property
    def unbalanced_bits(self) -> list[int]:
        """Bits that vary but are 1, or 0, for less than UNBALANCED_SHARE of the items."""
        minority = torch.minimum(self.ones, 1 - self.ones)
        return torch.nonzero((minority > 0) & (minority < UNBALANCED_SHARE)).flatten().tolist()

    @property
    def mean_correlation(self) -> float | None:
        """Mean |correlation| over pairs of bits that vary; None if fewer than two vary."""
        pairs = self.pair_correlations().abs()
        return None if len(pairs) == 0 else float(pairs.mean())

    @property
    def largest_correlation(self) -> float | None:
        """Largest |correlation| of two bits that vary; None if fewer than two vary."""
        pairs = self.pair_correlations().abs()
        return None if len(pairs) == 0 else float(pairs.max())

    @property
    def most_correlated(self) -> tuple[int, int] | None:
        """The two bits with the largest |correlation|, in ascending order; None if fewer than two vary."""
        if len(self.pair_correlations()) == 0:
            return None
        flat = int(self.correlation.abs().triu(1).nan_to_num(-1.0).argmax())
        return flat // self.bits, flat % self.bits

    @property
    def correlated_pairs(self) -> int:
        """Number of pairs of bits whose |correlation| is at least LARGE_CORRELATION."""
        return int((self.pair_correlations().abs() >= LARGE_CORRELATION).sum())

    def pair_correlations(self) -> Tensor:
        """Return the correlation of each pair of bits that vary, float64 (pairs,)."""
        upper = torch.ones(self.bits, self.bits, dtype=torch.bool).triu(1)
        values = self.correlation[upper]
        return values[~values.isnan()]

    def as_dict(self) -> dict[str, Any]:
        """Return everything except the correlation matrix, as JSON values."""
        return {
            "bits": self.bits,
            "items": self.items,
            "ones": self.ones.tolist(),
            "entropy": self.entropy.tolist(),
            "dead_bits": self.dead_bits,
            "unbalanced_bits": self.unbalanced_bits,
            "mean_correlation": self.mean_correlation,
            "largest_correlation": self.largest_correlation,
            "most_correlated": None if self.most_correlated is None else list(self.most_correlated),
            "correlated_pairs": self.correlated_pairs,
            "distinct_codes": self.distinct_codes,
        }


def joint_ones(codes: Tensor, bits: int) -> Tensor:
    """Return the number of items in which bits i and j are both 1. The diagonal counts the ones of each bit.

    Args:
        codes: uint8 (n, ⌈bits/8⌉), packed, on any device.
        bits: code length b.

    Returns:
        float64 (b, b) on the CPU, exact whole numbers.

    Raises:
        InvalidInputError: the codes are not packed codes of that length.
    """
    check_bits(bits)
    check_codes(codes, bits)
    counts = torch.zeros(bits, bits, dtype=torch.float64)
    for block in track(torch.split(codes, max(1, BLOCK_BYTES // (4 * bits))), "Bit diagnostics"):
        # A block has at most 2^22 rows, so its sums of zeros and ones are exact in single precision.
        ones = unpack(block, bits).float()
        counts += (ones.T @ ones).cpu()
    return counts


def bit_entropy(ones: Tensor) -> Tensor:
    """Return the entropy in bits of a bit that is 1 with probability `ones`.

    Args:
        ones: floating, any shape, in [0, 1].
    """
    rest = 1 - ones
    # abs() gives constant bits 0, not -0.
    return ((torch.xlogy(ones, ones) + torch.xlogy(rest, rest)) / math.log(2)).abs()


def bit_correlation(counts: Tensor, items: int) -> Tensor:
    """Return the Pearson correlation of the bits.

    Args:
        counts: float64 (b, b), as returned by `joint_ones`.
        items: number of items counted.

    Returns:
        float64 (b, b), exactly 1 on the diagonal, NaN in the rows and columns of constant bits.
    """
    ones = counts.diagonal()
    spread = (ones * (items - ones)).sqrt()
    correlation = ((items * counts - torch.outer(ones, ones)) / torch.outer(spread, spread)).clamp(-1, 1)
    varying = (ones > 0) & (ones < items)
    correlation.masked_fill_(~torch.outer(varying, varying), torch.nan)
    correlation.diagonal()[varying] = 1.0
    return correlation


def count_distinct(codes: Tensor) -> int:
    """Return the number of different rows of packed codes uint8 (n, B)."""
    if len(codes) < 2:
        return len(codes)
    rows = codes.cpu().numpy()
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : rows.shape[1]] = rows
    words = padded.view(np.uint64)
    words = words[np.lexsort(words.T)]
    return 1 + int((words[1:] != words[:-1]).any(1).sum())


def bit_diagnostics(codes: Tensor, bits: int) -> BitDiagnostics:
    """Compute diagnostics of the bits of packed codes, in O(BLOCK_BYTES + n·b + b²) memory besides the codes.

    Args:
        codes: uint8 (n, ⌈bits/8⌉), n >= 1, on any device.
        bits: code length b.

    Raises:
        InvalidInputError: there are no codes, or they are not packed codes of that length.

    Examples:
        >>> codes = torch.tensor([[0b01], [0b11], [0b01], [0b11]], dtype=torch.uint8)
        >>> diagnostics = bit_diagnostics(codes, bits=2)
        >>> diagnostics.dead_bits, diagnostics.entropy.tolist(), diagnostics.distinct_codes
        ([0], [0.0, 1.0], 2)
    """
    counts = joint_ones(codes, bits)
    if len(codes) == 0:
        raise InvalidInputError("codes have 0 rows; diagnostics need at least one code.")
    ones = counts.diagonal() / len(codes)
    return BitDiagnostics(
        bits=bits,
        items=len(codes),
        ones=ones,
        entropy=bit_entropy(ones),
        correlation=bit_correlation(counts, len(codes)),
        distinct_codes=count_distinct(codes),
    )
