"""FAISS's graph over binary codes (IndexBinaryHNSW; Malkov & Yashunin, TPAMI 2020): approximate."""

from pathlib import Path
from typing import Any, final

from torch import Tensor

from deephash.indexes.base import check_graph
from deephash.indexes.faiss_binary import FaissBinary


@final
class FaissHNSW(FaissBinary):
    """Layered graph of neighbours, which a search walks towards the query.

    Known weakness: the graph takes several times the memory of the codes and is slow to build. Many equal codes, such
    as those of flat image patches, leave parts of it that even a wider search does not reach; compare with `usearch`.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        links: neighbours M of a node.
        ef_construction: candidates kept while the graph is built.
        ef_search: candidates kept while it is searched, at least k; higher values find more and take longer.
        saved: file that FAISS wrote; None builds the index.

    References:
        Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
        world graphs", TPAMI 2020.
    """

    exact = False
    faiss_class = "IndexBinaryHNSW"

    def __init__(
        self,
        codes: Tensor,
        bits: int,
        links: int = 32,
        ef_construction: int = 80,
        ef_search: int = 64,
        saved: Path | None = None,
    ) -> None:
        self.links, self.ef_construction, self.ef_search = links, ef_construction, ef_search
        check_graph(links, ef_construction, ef_search)
        super().__init__(codes, bits, saved)

    def _create(self, faiss: Any) -> Any:
        index = faiss.IndexBinaryHNSW(self._faiss_bits, self.links)
        index.hnsw.efConstruction = min(self.ef_construction, self.size)
        return index

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        self._faiss.hnsw.efSearch = min(max(self.ef_search, k), self.items.rows)
        return super()._search(queries, k)
