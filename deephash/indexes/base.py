"""The interface of an index of packed codes: search for the nearest codes, or for all codes within a radius."""

import inspect
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash import registry
from deephash.codes import as_codes
from deephash.conversion import PlainArguments, convert_numpy_numbers
from deephash.io.files import reading
from deephash.ranking.distance import Distance, Hamming
from deephash.ranking.inputs import check_ranked
from deephash.validation import InvalidInputError, check_count, check_whole

if TYPE_CHECKING:
    import polars

MAX_LINKS = 1024
"""Maximum number of neighbours of a graph's node; each takes 4 to 8 bytes per item."""
NOT_FOUND = -1
"""Id of a neighbour that an approximate index did not find."""


class Identified(Protocol):
    """A hasher of one view or of two."""

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of the hasher's parts and weights."""

    @property
    def bits(self) -> int:
        """Code length b."""

    @property
    def distance(self) -> Distance:
        """Distance that ranks the codes."""


class Encoding(Identified, Protocol):
    """A hasher of one view."""

    def encode(self, features: Tensor | ArrayLike) -> Tensor:
        """Encode features (n, d) to packed codes uint8 (n, ⌈b/8⌉)."""


@dataclass(frozen=True)
class WithinRadius:
    """Items within a radius of each of q queries, concatenated.

    Args:
        offsets: int64 (q + 1,); the items of query i are at offsets[i] to offsets[i + 1].
        distances: int64 (offsets[q],), ascending within a query.
        ids: int64 (offsets[q],), rows of the database; among equal distances, ascending.
    """

    offsets: Tensor
    distances: Tensor
    ids: Tensor


class Index(PlainArguments, ABC):
    """A database of packed codes that is searched many times.

    Subclasses implement `_search`. They implement `_within` if their engine supports it, and `_write` if it has its own
    file. Ids are rows of the codes that the index was built from. `names` contains the user's names of the items. Codes
    stay in memory for rescoring and saving.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), on the CPU.
        bits: code length b.

    Raises:
        InvalidInputError: no codes, or codes of the wrong length.
    """

    exact: bool = True
    """Whether distances and ids equal those of a scan; only ids of ties at the last place may differ."""
    trial: ClassVar[str] = ""
    """Name of the trial in `engine_trial` that opens a saved engine file first; empty for no trial."""
    engine_file: str | None = None
    """Name of the engine's own file or folder in a saved index; the class then has an argument `saved` for its path."""
    keeps_columns: bool = False
    """Whether the index stores names and further columns beside the codes; the class then has an argument `columns`."""
    not_settings: ClassVar[frozenset[str]] = frozenset({"codes", "bits", "saved", "columns"})
    """Constructor arguments that are not settings of a saved index."""

    def __init__(self, codes: Tensor, bits: int) -> None:
        codes = as_codes(codes)
        self.distance = Hamming(bits)
        check_ranked(codes[:0], codes, self.distance)
        if len(codes) == 0:
            raise InvalidInputError("codes have 0 rows; expected at least one to search.")
        self.size = len(codes)
        self.codes = codes.contiguous()
        self.hasher: str | None = None
        self.folder: Path | None = None
        self.names: NDArray[Any] | None = None
        self.extra_columns: tuple[str, ...] = ()  # Names of the user's columns in the database.

    def __len__(self) -> int:
        return self.size

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.distance.bits

    @property
    def kind(self) -> str:
        """Registry key of this class."""
        return registry.get_word(type(self))

    def named(self, ids: Tensor) -> NDArray[Any]:
        """Return the user's names of ids, in the same shape; the ids themselves if the index has no names.

        Args:
            ids: int64, any shape, as `search` returns; -1 (not found) becomes -1 or the empty string.
        """
        rows = ids.numpy()
        if self.names is None:
            return rows
        found: NDArray[Any] = self.names[rows]
        found[rows < 0] = "" if found.dtype.kind == "U" else NOT_FOUND
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments except the codes, by name, as JSON values."""
        return {name: getattr(self, name) for name in self.setting_names()}

    @classmethod
    def setting_names(cls) -> list[str]:
        """Return the names of the constructor arguments that are settings."""
        return sorted(set(inspect.signature(cls).parameters) - cls.not_settings)

    @classmethod
    def restore(
        cls,
        codes: Tensor,
        bits: int,
        settings: dict[str, Any],
        engine: Path | None,
        columns: "polars.DataFrame | None" = None,
    ) -> Self:
        """Rebuild a saved index from its parts.

        Args:
            codes: codes that the index was built from.
            bits: code length b.
            settings: the value of `settings` when the index was saved.
            engine: path of the engine's own file, if it has one.
            columns: columns beside the codes, for a class that keeps columns and writes a new file.
        """
        optional = {"saved": engine, "columns": columns}
        return cls(codes, bits, **settings, **{name: value for name, value in optional.items() if value is not None})

    def _write(self, path: Path) -> None:
        """Write the engine's own file or folder; only called if `engine_file` is set."""
        raise NotImplementedError(f"{type(self).__name__} has no engine file")

    @abstractmethod
    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return distances and ids, int64 (q, k), of checked queries; q is at least 1, and k is 1 to N."""

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        raise InvalidInputError(
            f"{type(self).__name__} only finds the k nearest; for a radius choose kind=mih or flat."
        )

    @convert_numpy_numbers
    def search(self, queries: Tensor | ArrayLike, k: int = 10) -> tuple[Tensor, Tensor]:
        """Find the k nearest codes of each query, nearest first; ties are ordered by id.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            k: number of neighbours, 1 to N.

        Returns:
            Distances and ids, int64 (q, k). If an approximate index finds fewer than k, the last ids are -1, at
            distance b + 1.

        Raises:
            InvalidInputError: codes of the wrong length, or k greater than the size of the database.
        """
        queries = as_codes(queries, "query codes")
        check_ranked(queries, queries[:0], self.distance)
        check_count(k, "k")
        if k > self.size:
            raise InvalidInputError(f"k={k} exceeds the {self.size} items of the database; lower k.")
        if len(queries) == 0:
            empty = torch.empty(0, k, dtype=torch.int64)
            return empty, empty.clone()
        with self._engine_errors():
            distances, ids = self._search(queries.cpu().contiguous(), k)
        self._check_ids(ids)
        return distances, ids

    @convert_numpy_numbers
    def within(self, queries: Tensor | ArrayLike, radius: int) -> WithinRadius:
        """Find all codes within a Hamming radius of each query, nearest first; ties are ordered by id.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            radius: largest distance r, 0 to b.

        Raises:
            InvalidInputError: codes of the wrong length, a radius above b, or an index without radius search.
        """
        queries = as_codes(queries, "query codes")
        check_ranked(queries, queries[:0], self.distance)
        check_whole(radius, 0, "radius", self.bits)
        with self._engine_errors():
            found = self._within(queries.cpu().contiguous(), radius)
        self._check_ids(found.ids)
        return found

    def _engine_errors(self) -> AbstractContextManager[None]:
        """Turn an engine's errors about its own file into one line, if the index was loaded from a folder."""
        if self.folder is None:
            return nullcontext()
        return reading(self.folder, f"an index of kind={self.kind}", "build it again or load it with engine='rebuild'")

    def _check_ids(self, ids: Tensor) -> None:
        """Raise an error if ids are outside the database, which a damaged engine file can cause."""
        if ids.numel() and not (int(ids.min()) >= NOT_FOUND and int(ids.max()) < self.size):
            raise InvalidInputError(
                f"the index of kind={self.kind} names item {int(ids.max())} of {self.size}; its own file is damaged: "
                "build it again, or load it with engine='rebuild'."
            )

    def check_hasher(self, hasher: Identified) -> None:
        """Raise an error unless the index contains codes of this hasher.

        Raises:
            InvalidInputError: the index was built with another hasher, or no hasher is recorded in it.
        """
        if self.hasher is None:
            raise InvalidInputError(
                "the index does not record which hasher made its codes; build it with deephash.index(codes, "
                "hasher=hasher)."
            )
        if hasher.identity != self.hasher:
            raise InvalidInputError(
                f"the index holds codes of the hasher {self.hasher}, and this one is {hasher.identity}; search with "
                "the hasher that made them, or encode the database again."
            )

    def search_features(self, hasher: Encoding, features: Tensor | ArrayLike, k: int = 10) -> tuple[Tensor, Tensor]:
        """Encode features with the hasher of the index, and find the k nearest codes.

        Args:
            hasher: a hasher of one view. For a hasher of two views, call `check_hasher` with the whole hasher, and
                search with codes of one view.
            features: numbers (q, d).
            k: number of neighbours, 1 to N.

        Returns:
            Distances and ids, int64 (q, k).

        Raises:
            InvalidInputError: another hasher, or an error of `encode` or `search`.
        """
        self.check_hasher(hasher)
        return self.search(hasher.encode(features), k)

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder for `deephash.load_index`; an existing index is replaced in one step.

        Raises:
            InvalidInputError: a folder that cannot be written, or a setting that is not JSON-serialisable.
        """
        from deephash.indexes.index_folder import write_index

        write_index(self, Path(folder))


def check_graph(links: int, ef_construction: int, ef_search: int) -> None:
    """Raise an error unless the settings of a neighbour graph are whole numbers from 1, and links fit in memory."""
    for name, value in (("links", links), ("ef_construction", ef_construction), ("ef_search", ef_search)):
        check_count(value, name)
    if links > MAX_LINKS:
        raise InvalidInputError(f"links={links}; expected 1 to {MAX_LINKS} neighbours of a node.")


def sort_nearest(distances: Tensor, ids: Tensor, farthest: int) -> tuple[Tensor, Tensor]:
    """Sort an engine's neighbours by distance, then by id; neighbours with an id below 0 go to the end.

    Args:
        distances: (q, k) of any dtype that holds whole numbers, in any order.
        ids: (q, k).
        farthest: distance of neighbours that were not found, b + 1.

    Returns:
        Distances and ids, int64 (q, k).
    """
    ids = ids.to(torch.int64)
    missing = ids < 0
    distances = distances.masked_fill(missing, 0).to(torch.int64).masked_fill(missing, farthest)
    order = ids.argsort(dim=1, stable=True)
    order = order.gather(1, distances.gather(1, order).argsort(dim=1, stable=True))
    return distances.gather(1, order), ids.gather(1, order).clamp_min(NOT_FOUND)


def arrange_nearest(
    rows: Tensor, distances: Tensor, ids: Tensor, shape: tuple[int, int], farthest: int
) -> tuple[Tensor, Tensor]:
    """Arrange neighbours, listed query by query, as matrices; see `sort_nearest` for their order.

    Args:
        rows: int64 (n,), ascending, the query of each neighbour; at most k of each.
        distances: (n,).
        ids: (n,).
        shape: (q, k).
        farthest: distance of neighbours that were not found, b + 1.

    Returns:
        Distances and ids, int64 (q, k).
    """
    rows = rows.contiguous()
    rank = torch.arange(len(rows)) - torch.searchsorted(rows, rows)
    near, found = torch.zeros(shape, dtype=distances.dtype), torch.full(shape, NOT_FOUND, dtype=torch.int64)
    near[rows, rank], found[rows, rank] = distances, ids.to(torch.int64)
    return sort_nearest(near, found, farthest)


def sort_within(offsets: Tensor, distances: Tensor, ids: Tensor) -> WithinRadius:
    """Sort each query's items by distance, then by id."""
    queries = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    order = ids.argsort(stable=True)
    order = order[distances[order].argsort(stable=True)]
    order = order[queries[order].argsort(stable=True)]
    return WithinRadius(offsets, distances[order], ids[order])


def arrange_within(rows: Tensor, distances: Tensor, ids: Tensor, queries: int) -> WithinRadius:
    """Group items by query, and sort them; arguments as for `arrange_nearest`, with the number of queries."""
    counts = torch.bincount(rows, minlength=queries)
    return sort_within(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), distances, ids)
