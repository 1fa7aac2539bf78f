"""Queries and a database in the layout of the Triton kernels that compare them pair by pair, and their launches."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deephash.codes import pack, unpack
from deephash.ranking import triton_kernels as kernels
from deephash.ranking import triton_tiles
from deephash.ranking.distance import Distance, Hamming, LevelDistance
from deephash.ranking.gpu_forms import TENSOR_ROWS, Form, choose_form, list_forms, tile_rows
from deephash.ranking.linear_form import form_levels
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel

# Items of a tile: 8 for each of the 128 threads of a program.
TILE = 1024
# Tables of more distances are counted in global memory; the 1,025 distances of 1,024-bit codes fit in shared memory.
SHARED_BINS = 2048
# Tiles that a program counts before it adds its table to the query's: few, so that a small batch fills the GPU.
TILES = 8
# Signs that tensor cores multiply at a time, and memory of the signs of a block of items.
DEPTH, SIGN_BYTES = 64, 2**28


def view_words(codes: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Pad packed bytes (n, B) with zeros and view them as words of `size` bytes: (n, ⌈B/size⌉) of `dtype`."""
    padded = torch.zeros(len(codes), -(-codes.shape[1] // size) * size, dtype=torch.uint8, device=codes.device)
    padded[:, : codes.shape[1]] = codes
    return padded.view(dtype)


def view_signs(words: Tensor, bits: int) -> Tensor:
    """Convert int32 words of codes (n, W) to signs int8 (n, width): 1 or -1, and 0 beyond the bits of a code."""
    signs = torch.zeros(len(words), -(-bits // DEPTH) * DEPTH, dtype=torch.int8, device=words.device)
    signs[:, :bits] = unpack(words.contiguous().view(torch.uint8), 32 * words.shape[1])[:, :bits]
    signs[:, :bits].mul_(2).sub_(1)
    return signs


def layout_codes(codes: Tensor, distance: Distance) -> Tensor:
    """Convert codes to the layout of the kernels: int32 words, levels uint8 or bits uint8, (n, width)."""
    if isinstance(distance, Hamming):
        return view_words(codes, 4, torch.int32)
    if isinstance(distance, LevelDistance):
        return form_levels(codes, distance).to(torch.uint8)
    return unpack(codes, distance.bits).to(torch.uint8)


@dataclass(frozen=True)
class Labels:
    """Labels in the layout of the kernels.

    Args:
        kind: LISTED, LABEL or MASK of the kernels.
        query: int64 (q,) or (q, width); None if relevance is not computed here.
        database: int64 (N,) or (N, width).
        width: words of 64 labels.
    """

    kind: int
    query: Tensor | None = None
    database: Tensor | None = None
    width: int = 1

    @classmethod
    def from_relevance(cls, relevance: Relevance) -> "Labels":
        """Lay out the labels of a relevance; neighbours have none."""
        if isinstance(relevance, Neighbours):
            return NO_LABELS
        if isinstance(relevance, SharedLabel):
            return cls(kernels.LABEL.value, relevance.query.contiguous(), relevance.database.contiguous())
        query, database = (view_words(pack(side), 8, torch.int64) for side in (relevance.query, relevance.database))
        return cls(kernels.MASK.value, query, database, database.shape[1])

    @property
    def tables(self) -> int:
        """Number of tables to count: of all items, and of relevant ones if labels decide."""
        return 1 if self.query is None else 2


NO_LABELS = Labels(kernels.LISTED.value)


@dataclass(frozen=True)
class Pairs:
    """Queries and database in the layout of the kernels, and the kind of their distance; a `Scan` of `gpu_lists`.

    Args:
        queries: (q, width), see `layout_codes`.
        weights: int32 (q, width), the query's cost of each differing bit if the distance is asymmetric; else `queries`.
        database: (width, N).
        kind: HAMMING, MANHATTAN or ASYMMETRIC of the kernels.
        bits: code length.
        bins: columns of a table of distances: a power of two above the largest.
    """

    queries: Tensor
    weights: Tensor
    database: Tensor
    kind: int
    bits: int
    bins: int

    @classmethod
    def from_codes(cls, query_codes: Tensor, database_codes: Tensor, distance: Distance) -> "Pairs":
        """Lay out packed codes, uint8 (q, B) and (N, B), for `distance`."""
        queries, database = layout_codes(query_codes, distance), layout_codes(database_codes, distance)
        weights, kind = queries, kernels.HAMMING.value
        if isinstance(distance, LevelDistance):
            kind = kernels.MANHATTAN.value
        elif not isinstance(distance, Hamming):
            kind, weights = kernels.ASYMMETRIC.value, distance.weights.contiguous()
        bins = max(16, 1 << distance.maximum.bit_length())
        return cls(queries, weights, database.T.contiguous(), kind, distance.code_bits, bins)

    def select(self, rows: slice | Tensor) -> "Pairs":
        """Return the pairs of some queries."""
        return replace(self, queries=self.queries[rows], weights=self.weights[rows])

    def sample(self, stride: int) -> "Pairs":
        """Return the queries with every `stride`-th item."""
        return replace(self, database=self.database[:, ::stride].contiguous())

    @property
    def arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first arguments of every kernel."""
        return self.queries, self.weights, self.database

    @property
    def items(self) -> int:
        """Number of codes N of the database."""
        return self.database.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of codes N, and words, levels or bits of a code."""
        return self.items, self.database.shape[0]

    @property
    def tiles(self) -> int:
        """Number of tiles of the database per program."""
        return min(TILES, -(-self.items // TILE))

    @property
    def grid(self) -> tuple[int, int]:
        """Programs: queries × parts of the database."""
        return len(self.queries), -(-self.items // (TILE * self.tiles))

    @property
    def query_count(self) -> int:
        """Number of queries q."""
        return len(self.queries)

    @property
    def places(self) -> int:
        """Number of places of items: N."""
        return self.items

    @property
    def device(self) -> torch.device:
        """Device of the layout."""
        return self.queries.device

    @property
    def limit_bytes(self) -> int:
        """Memory of `find_limits` for a query: two int32 tables, and the cumulative sums of one as int64."""
        return 16 * self.bins

    def list_forms(self, tables: int) -> tuple[Form, ...]:
        """Return the forms that can count 1 or 2 tables; see `gpu_forms`."""
        hamming = self.kind == kernels.HAMMING.value
        return list_forms(hamming=hamming, bits=self.bits, bins=self.bins, tables=tables, shared_bins=SHARED_BINS)

    def choose_form(self, tables: int) -> Form:
        """Return the fastest form for pairs, which is never planes."""
        return choose_form(
            self.list_forms(tables), bits=self.bits, queries=len(self.queries), items=self.items, labels=None
        )

    def count(self, labels: Labels, form: Form) -> tuple[Tensor, Tensor]:
        """Count the items, and those that a label makes relevant, at each distance: int32 (q, bins), twice.

        Args:
            labels: labels of queries and items.
            form: scalar, tiled or tensor.
        """
        total = torch.zeros(len(self.queries), self.bins, dtype=torch.int32, device=self.device)
        relevant = torch.zeros_like(total)
        # Without labels, the kernels do not read these arguments.
        query_labels = self.queries if labels.query is None else labels.query
        item_labels = self.database if labels.database is None else labels.database
        outputs = (query_labels, item_labels, total, relevant)
        constants: dict[str, int] = {"RELEVANCE": labels.kind, "BINS": self.bins}
        if form == "scalar":
            scalar_sizes = (*self.shape, labels.width, self.tiles)
            constants |= {"DISTANCE": self.kind, "TILE": TILE, "SHARED": self.bins <= SHARED_BINS}
            kernels.histogram_kernel[self.grid](*self.arrays, *outputs, *scalar_sizes, **constants)
            return total, relevant
        rows = TENSOR_ROWS if form == "tensor" else tile_rows(self.bins, labels.tables)
        tile = max(16, TILE // 4 if form == "tensor" else 2 * TILE // rows)
        constants |= {"TILE": tile, "ROWS": rows, "CELLS": rows * self.bins * labels.tables}
        if form == "tiled":
            tiles = min(TILES, -(-self.items // tile))
            grid = (-(-len(self.queries) // rows), -(-self.items // (tile * tiles)))
            sizes = (len(self.queries), *self.shape, labels.width, tiles)
            triton_tiles.tiled_kernel[grid](*self.arrays, *outputs, *sizes, DISTANCE=self.kind, **constants)
        else:
            self._count_products(labels, item_labels, (query_labels, total, relevant), constants)
        return total, relevant

    def _count_products(
        self, labels: Labels, item_labels: Tensor, tables: tuple[Tensor, Tensor, Tensor], constants: dict[str, int]
    ) -> None:
        """Count by products of signs, in blocks of items whose signs take `SIGN_BYTES`."""
        query_labels, total, relevant = tables
        queries = view_signs(self.queries, self.bits)
        step = max(constants["TILE"], SIGN_BYTES // queries.shape[1])
        for start in range(0, self.items, step):
            signs = view_signs(self.database[:, start : start + step].T, self.bits)
            own_labels = item_labels[start : start + step] if labels.tables == 2 else item_labels
            tiles = min(TILES, -(-len(signs) // constants["TILE"]))
            grid = (-(-len(queries) // constants["ROWS"]), -(-len(signs) // (constants["TILE"] * tiles)))
            arrays = (queries, signs, query_labels, own_labels, total, relevant)
            sizes = (len(queries), len(signs), queries.shape[1], self.bits, labels.width, tiles)
            triton_tiles.tensor_kernel[grid](*arrays, *sizes, DEPTH=DEPTH, **constants, num_warps=8)

    def count_listed(self, rows: Tensor, ids: Tensor, relevant: Tensor) -> None:
        """Add listed pairs, item ids[p] of query rows[p], to a table int32 (q, bins)."""
        arrays, sizes = (*self.arrays, rows, ids, relevant), (len(ids), *self.shape)
        kernels.listed_kernel[(-(-len(ids) // TILE),)](*arrays, *sizes, DISTANCE=self.kind, BINS=self.bins, TILE=TILE)

    def find_limits(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the least distance within which each query has k items, and their number, int64 (q,)."""
        reached = self.count(NO_LABELS, self.choose_form(1))[0].cumsum(1)
        limits = (reached < k).sum(1).clamp_max(self.bins - 1)
        return limits, reached.gather(1, limits[:, None])[:, 0]

    def collect(self, limits: Tensor, filled: Tensor, keys: Tensor) -> None:
        """Write keys, distance * N + item, of the items within limits; see `gpu_lists.Scan`."""
        arrays, sizes = (*self.arrays, limits, filled, keys), (*self.shape, keys.shape[1], self.tiles)
        kernels.collect_kernel[self.grid](*arrays, *sizes, DISTANCE=self.kind, TILE=TILE)

    def find_nearest(self, k: int) -> Tensor:
        """Return the keys of each query's k nearest items in order, int64 (q, k), by one launch and a sort."""
        keys = torch.empty(len(self.queries), k, dtype=torch.int64, device=self.device)
        sizes = (*self.shape, k, -(-self.items // TILE))
        kernels.nearest_kernel[(len(self.queries),)](
            *self.arrays, keys, *sizes, DISTANCE=self.kind, BINS=self.bins, TILE=TILE
        )
        return keys.sort(1).values
