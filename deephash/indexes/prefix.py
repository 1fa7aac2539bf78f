"""Search by a prefix of the codes, then by the whole codes of the candidates."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash import registry
from deephash.codes import cut_codes
from deephash.indexes.base import Index
from deephash.indexes.candidate_kernels import measure_listed, rank_candidates, view_words
from deephash.indexes.neighbour_lists import WithinRadius
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.numba_engine import run_in_threads
from deephash.validation import InvalidInputError, check_count, check_whole

# Memory of the candidates of a block of queries.
BLOCK_BYTES = 64 * 2**20
# Exact search: growth of the candidates, and the share of rows from which a scan is faster.
GROWTH, MAX_SHARE = 8, 0.1


@final
class Prefix(Index):
    """Two-stage search in one database of codes: candidates by their first bits, ordered by all bits.

    A scan of the first 128 of 512 bits reads a quarter of the memory. Then the whole codes of `factor` · k candidates
    decide. Use it with codes whose prefixes retrieve well, such as those of `NestedITQ`. The prefixes are also stored
    apart from the codes. A radius search is exact, because whole codes are at least as far apart as their
    prefixes.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        prefix: number of bits of the first stage, below b; None uses a quarter of the code, in whole bytes.
        over: kind of the index of the prefixes, with its default settings; any kind that keeps its items in memory.
        factor: candidates for each requested neighbour; higher values find more and take longer.
        approximate: False takes more candidates until no other item can be nearer: the prefix distance of all others is
            a lower bound of their distance. That is fast only if neighbours are much nearer than other items, as
            duplicates are; otherwise it ends in a scan of the whole codes.
        threads: number of threads of the second stage; None uses torch's number.

    Raises:
        InvalidInputError: a prefix that is not below b, an unknown kind or one with a database of its own, factor or
            threads below 1, or an exact search over an approximate kind.
    """

    exact = False
    takes_changes = True
    max_removed = 0.03

    def __init__(
        self,
        codes: Tensor,
        bits: int,
        prefix: int | None = None,
        over: str = "flat",
        factor: int = 20,
        approximate: bool = True,
        threads: int | None = None,
    ) -> None:
        super().__init__(codes, bits)
        if bits < 2:
            raise InvalidInputError(f"codes have {bits} bits; kind=prefix needs at least 2.")
        prefix = min(bits - 1, 8 * -(-bits // 32)) if prefix is None else prefix
        check_whole(prefix, 1, "prefix", bits - 1)
        check_count(factor, "factor")
        if threads is not None:
            check_count(threads, "threads")
        self._class = find_kind(over)
        if not approximate and not self._class.exact:
            raise InvalidInputError(f"over={over} is approximate; leave approximate=True, or use flat, mih or gpu.")
        self.prefix, self.over, self.factor, self.threads = prefix, over, factor, threads
        self.approximate, self.exact = approximate, not approximate
        self._build()
        self.takes_changes = self._first.takes_changes

    def _build(self) -> None:
        self._first = self._class(cut_codes(self.codes, self.prefix), self.prefix)

    def _extend(self, first: int) -> None:
        self._first.add(cut_codes(self.codes[first:], self.prefix))

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        depth = min(self.items.rows, k * self.factor)
        distances, rows, bounds = self._search_candidates(queries, k, depth)
        if self.approximate:
            return distances, rows
        # An item that is not a candidate is at least as far away as the last candidate's prefix.
        while depth < self.items.rows and bool((open_ := distances[:, -1] >= bounds).any()):
            depth = min(self.items.rows, GROWTH * depth)
            if depth > self.items.rows * MAX_SHARE:
                distances[open_], rows[open_] = AutoEngine().search(queries[open_], self.codes, self.distance, k)
                break
            distances[open_], rows[open_], bounds[open_] = self._search_candidates(queries[open_], k, depth)
        return distances, rows

    def _search_candidates(self, queries: Tensor, k: int, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return distances and rows (q, k), and the prefix distance (q,) of the last of `depth` candidates."""
        distances, found = (torch.empty(len(queries), k, dtype=torch.int64) for _ in range(2))
        bounds = torch.empty(len(queries), dtype=torch.int64)
        codes = view_words(self.items.codes)
        step = max(1, BLOCK_BYTES // (16 * depth))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            near, candidates = self._first._search(cut_codes(queries[part], self.prefix), depth)
            bounds[part] = near[:, -1]
            words = queries[part].numpy() if codes.dtype == np.uint8 else queries[part].numpy().view(np.uint64)
            arguments = (words, codes, candidates.numpy(), self.bits + 1, distances[part].numpy(), found[part].numpy())
            run_in_threads(rank_candidates, arguments, len(words), self.threads or torch.get_num_threads())
        return distances, found, bounds

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        first = self._first._within(cut_codes(queries, self.prefix), min(radius, self.prefix))
        codes = view_words(self.items.codes)
        words = queries.numpy() if codes.dtype == np.uint8 else queries.numpy().view(np.uint64)
        offsets, rows = first.offsets.numpy(), first.ids.numpy()
        distances = np.empty(len(rows), np.int64)
        arguments = (words, codes, offsets, rows, distances)
        run_in_threads(measure_listed, arguments, len(words), self.threads or torch.get_num_threads())
        kept = np.flatnonzero(distances <= radius)
        owners = np.repeat(np.arange(len(words)), np.diff(offsets))[kept]
        kept = kept[np.lexsort((rows[kept], distances[kept], owners))]
        counts = np.bincount(owners, minlength=len(words))
        return WithinRadius(
            torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
            torch.from_numpy(distances[kept]),
            torch.from_numpy(rows[kept]),
        )


def find_kind(kind: str) -> type[Index]:
    """Return the class of a kind that can hold prefixes.

    Raises:
        InvalidInputError: an unknown kind, or one with a database of its own.
    """
    found: type[Index] = registry.find("indexes", kind, "over")
    if found is Prefix or found.keeps_columns:
        raise InvalidInputError(
            f"over={kind} cannot hold prefixes; use flat, mih or gpu, or a kind of FAISS or USearch."
        )
    return found
