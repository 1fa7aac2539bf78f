"""FAISS's inverted lists over binary codes (IndexBinaryIVF): approximate."""

import math
from pathlib import Path
from typing import Any, final

from torch import Tensor

from deephash.codes import as_codes
from deephash.indexes.faiss_binary import FaissBinary
from deephash.validation import check_count

# FAISS expects this many training codes for each centre, and warns about fewer.
CODES_PER_LIST = 39


@final
class FaissIVF(FaissBinary):
    """Lists of codes around centres; a search scans the lists of the centres nearest to the query.

    It takes little memory besides the codes, and is the fastest kind if a few per cent of the neighbours may be lost.
    Known weakness: for queries unlike the database, the nearest codes may be in lists that are not scanned.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        lists: number of centres; None uses 4 √N, but at most one per 39 codes.
        probes: lists that a query scans; higher values find more and take longer.
        saved: file that FAISS wrote; None builds the index.
    """

    exact = False
    faiss_class = "IndexBinaryIVF"

    def __init__(
        self, codes: Tensor, bits: int, lists: int | None = None, probes: int = 16, saved: Path | None = None
    ) -> None:
        codes = as_codes(codes)
        usual = max(1, min(round(4 * math.sqrt(len(codes))), len(codes) // CODES_PER_LIST))
        self.lists = usual if lists is None else lists
        self.probes = probes
        check_count(self.lists, "lists")
        check_count(probes, "probes")
        super().__init__(codes, bits, saved)

    def _set_up(self) -> None:
        self._faiss.nprobe = min(self.probes, self._faiss.nlist)

    def _create(self, faiss: Any) -> Any:
        centres = faiss.IndexBinaryFlat(self._faiss_bits)
        index = faiss.IndexBinaryIVF(centres, self._faiss_bits, min(self.lists, self.size))
        index.cp.min_points_per_centroid = 1  # Few codes per list are the user's choice: suppress FAISS's warning.
        return index
