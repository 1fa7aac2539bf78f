"""FAISS's multi-index hashing within a fixed radius (IndexBinaryMultiHash): approximate."""

import math
from pathlib import Path
from typing import Any, final

from torch import Tensor

from deephash.codes import as_codes
from deephash.indexes.faiss_binary import FaissBinary
from deephash.indexes.mih import default_tables
from deephash.validation import InvalidInputError, check_bits, check_count, check_whole

MAX_FLIPS, MAX_BUCKETS = 32, 1 << 24
"""Maximal numbers of flipped bits of a substring, and of buckets per query and table; more take seconds per query."""


@final
class FaissMultiHash(FaissBinary):
    """Tables of the codes' substrings; a search looks up each query substring and its variants of a few flipped bits.

    All codes within hashes · (flips + 1) - 1 bits are found; farther codes may be missed. `MIH` widens the radius until
    the k nearest are certain, and is faster. Use this class for comparison, or in services that already run FAISS.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        hashes: number of substrings; None uses the number with which a bucket, the codes with one value of a
            substring, contains about one item.
        flips: maximal number of flipped bits of a substring; the number of buckets grows exponentially with it.
        saved: file that FAISS wrote; None builds the index.
    """

    exact = False
    faiss_class = "IndexBinaryMultiHash"

    def __init__(
        self, codes: Tensor, bits: int, hashes: int | None = None, flips: int = 2, saved: Path | None = None
    ) -> None:
        check_bits(bits)
        codes = as_codes(codes)
        self.hashes = default_tables(bits, len(codes)) if hashes is None else hashes
        check_count(self.hashes, "hashes")
        if self.hashes > bits:
            raise InvalidInputError(f"hashes={hashes} exceeds the {bits} bits of a code; lower it.")
        check_whole(flips, 0, "flips")
        length = bits // self.hashes
        buckets = sum(math.comb(length, flipped) for flipped in range(min(flips, length, MAX_FLIPS + 1) + 1))
        if flips > MAX_FLIPS or buckets > MAX_BUCKETS:
            raise InvalidInputError(
                f"flips={flips} of {length} bits visits more than {MAX_BUCKETS} buckets per table; lower it."
            )
        self.flips = flips
        super().__init__(codes, bits, saved)

    def _set_up(self) -> None:
        self._faiss.nflip = self.flips

    def _create(self, faiss: Any) -> Any:
        return faiss.IndexBinaryMultiHash(self._faiss_bits, self.hashes, self.bits // self.hashes)
