"""USearch over binary codes (b1, Hamming): its graph, or its exact scan."""

from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from deephash.indexes.base import Index, check_graph
from deephash.indexes.engine_package import import_engine
from deephash.indexes.neighbour_lists import arrange_nearest
from deephash.io.files import reading


@final
class USearch(Index):
    """Graph of neighbours (HNSW), or a scan of all codes if `approximate` is false; uses torch's number of threads.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        approximate: whether to use the graph; False scans, and builds nothing.
        links: neighbours M of a node.
        ef_construction: candidates kept while the graph is built.
        ef_search: candidates kept while it is searched, at least k; higher values find more and take longer.
        saved: file that USearch wrote; None builds the index.

    Raises:
        InvalidInputError: the package is not installed, or a setting is not a whole number of at least 1.
    """

    exact = False  # unless `approximate` is false
    takes_changes = True
    trial = "usearch"
    engine_file: str | None = "index.usearch"

    def __init__(
        self,
        codes: Tensor,
        bits: int,
        approximate: bool = True,
        links: int = 16,
        ef_construction: int = 128,
        ef_search: int = 64,
        saved: Path | None = None,
    ) -> None:
        super().__init__(codes, bits)
        self.approximate, self.exact = approximate, not approximate
        self.links, self.ef_construction, self.ef_search = links, ef_construction, ef_search
        check_graph(links, ef_construction, ef_search)
        self._package = import_engine("usearch.index", "usearch")
        if not approximate:
            self.engine_file = None
        elif saved is None:
            self._build()
        else:
            self._create()
            with reading(saved, "an index of USearch", "restore it or build it again"):
                self._graph.load(str(saved))
                if len(self._graph) != self.size or self._graph.ndim != 8 * self.codes.shape[1]:
                    raise ValueError(f"it holds {len(self._graph)} codes of {self._graph.ndim} bits")

    def _create(self) -> None:
        """Create an empty graph."""
        self._graph = self._package.Index(
            ndim=8 * self.codes.shape[1],
            metric="hamming",
            dtype="b1",
            connectivity=self.links,
            expansion_add=min(self.ef_construction, self.size),
            expansion_search=min(self.ef_search, self.size),
        )

    def _build(self) -> None:
        if self.approximate:
            self._create()
            self._extend(0)

    def _extend(self, first: int) -> None:
        if self.approximate:
            rows = np.arange(first, self.items.rows)
            self._graph.add(rows, self.codes.numpy()[first:], threads=torch.get_num_threads())

    def _write(self, path: Path) -> None:
        self._graph.save(str(path))

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        threads = torch.get_num_threads()
        if self.exact:
            found = self._package.search(
                self.codes.numpy(), queries.numpy(), k, "hamming", exact=True, dtype="b1", threads=threads
            )
        else:
            self._graph.expansion_search = min(max(self.ef_search, k), self.items.rows)
            found = self._graph.search(queries.numpy(), k, threads=threads)
        # USearch returns matrices and the valid length of each row; for one query, a row without padding.
        keys, distances = (np.atleast_2d(array) for array in (found.keys, found.distances))
        counts: Any = getattr(found, "counts", keys.shape[1])
        is_found = np.arange(keys.shape[1]) < np.broadcast_to(counts, len(queries))[:, None]
        rows = torch.from_numpy(np.nonzero(is_found)[0])
        near, ids = torch.from_numpy(distances[is_found]), torch.from_numpy(keys[is_found].astype(np.int64))
        return arrange_nearest(rows, near, ids, (len(queries), k), self.bits + 1)
