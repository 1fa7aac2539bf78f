"""The interface of an index of packed codes: search for the nearest codes, or for all codes within a radius."""

import inspect
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.codes import as_codes
from deephash.conversion import convert_numpy_numbers
from deephash.indexes.allowed_search import keep_allowed, search_allowed
from deephash.indexes.changing_items import MutableItems
from deephash.indexes.neighbour_lists import NOT_FOUND, WithinRadius
from deephash.indexes.row_filter import Where, select_rows
from deephash.io.files import reading
from deephash.ranking.distance import Distance
from deephash.ranking.inputs import check_packed
from deephash.validation import InvalidInputError, check_count, check_whole

if TYPE_CHECKING:
    import polars

    from deephash.indexes.choose_index import Choice

MAX_LINKS = 1024
"""Maximum number of neighbours of a graph's node; each takes 4 to 8 bytes per item."""


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


class Index(MutableItems, ABC):
    """A database of packed codes that is searched many times.

    Subclasses implement `_search`. They implement `_within` if their engine supports it, `_write` if it has its own
    file, and `_extend` and `_build` if items can be added and removed. These methods see rows; ids are the rows of the
    codes that the index was built from, and an added item gets the next id. Ids of removed items are not used again.
    `names` contains the user's names of the items. Codes stay in memory for rescoring and saving. Do not search in one
    thread while another one changes the index.

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
        super().__init__(codes, bits)
        self.hasher: str | None = None
        self.folder: Path | None = None
        self.choice: Choice | None = None  # What kind="auto" tried.
        self.extra_columns: tuple[str, ...] = ()  # Names of the user's columns in the database.

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

    def _filter_rows(self, where: Where) -> NDArray[np.bool_]:
        """Return which rows a filter selects, bool (rows,)."""
        return select_rows(self.items, where)

    def _search_among(
        self, queries: Tensor, k: int, allowed: NDArray[np.bool_], count: int, *, is_filter: bool
    ) -> tuple[Tensor, Tensor]:
        """Search among `count` allowed rows, at least k; `is_filter` tells a user's filter from removed rows."""
        return search_allowed(self, queries, k, allowed, count)

    @convert_numpy_numbers
    def search(self, queries: Tensor | ArrayLike, k: int = 10, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Find the k nearest codes of each query, nearest first; ties are ordered by id.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            k: number of neighbours, 1 to N.
            where: filter of the items: bool (N,) in the order of `ids`; a list of names, or of ids if the index has no
                names; or a condition on `id`, `name` and the columns of the index, SQL such as "price < 60" or an
                expression of polars. None searches all items.

        Returns:
            Distances and ids, int64 (q, k). If a filter selects fewer than k items, or an approximate index finds
            fewer, the last ids are -1, at distance b + 1.

        Raises:
            InvalidInputError: codes of the wrong length, k greater than the size of the database, or an invalid filter.
        """
        queries = as_codes(queries, "query codes")
        check_packed(queries, self.bits, "query codes")
        check_count(k, "k")
        if k > self.size:
            raise InvalidInputError(f"k={k} exceeds the {self.size} items of the database; lower k.")
        allowed = self._allow(where)
        if queries.shape[0] == 0:
            empty = torch.empty(0, k, dtype=torch.int64)
            return empty, empty.clone()
        queries = (queries if queries.is_cpu else queries.cpu()).contiguous()
        with self._engine_errors():
            if allowed is None:
                distances, rows = self._search(queries, k)
                if self.engine_file is None and self.items.has_rows_as_ids:
                    return distances, rows
            elif where is None:
                distances, rows = self._search_among(queries, k, allowed, self.size, is_filter=False)
            else:
                count = int(np.count_nonzero(allowed))
                shape = (len(queries), k)
                distances, rows = torch.full(shape, self.bits + 1), torch.full(shape, NOT_FOUND)
                if count:
                    wanted = min(k, count)
                    distances[:, :wanted], rows[:, :wanted] = self._search_among(
                        queries, wanted, allowed, count, is_filter=True
                    )
        self._check_ids(rows)
        if self.items.has_rows_as_ids:
            return distances, rows
        return distances, torch.from_numpy(self.items.ids_of(rows.numpy(), complete=self.exact and where is None))

    @convert_numpy_numbers
    def within(self, queries: Tensor | ArrayLike, radius: int, where: Where | None = None) -> WithinRadius:
        """Find all codes within a Hamming radius of each query, nearest first; ties are ordered by id.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            radius: largest distance r, 0 to b.
            where: filter of the items, as for `search`.

        Raises:
            InvalidInputError: codes of the wrong length, a radius above b, an invalid filter, or an index without
                radius search.
        """
        queries = as_codes(queries, "query codes")
        check_packed(queries, self.bits, "query codes")
        check_whole(radius, 0, "radius", self.bits)
        allowed = self._allow(where)
        with self._engine_errors():
            found = self._within(queries.cpu().contiguous(), radius)
        self._check_ids(found.ids)
        if allowed is not None:
            found = keep_allowed(found, allowed)
        return replace(found, ids=torch.from_numpy(self.items.ids_of(found.ids.numpy())))

    def _allow(self, where: Where | None) -> NDArray[np.bool_] | None:
        """Return which rows a search may find, or None for all."""
        alive = self.items.alive
        if where is None:
            return alive
        selected: NDArray[np.bool_] = self._filter_rows(where)
        return selected if alive is None else np.logical_and(selected, alive)

    def _engine_errors(self) -> AbstractContextManager[None]:
        """Turn an engine's errors about its own file into one line, if the index was loaded from a folder."""
        if self.folder is None:
            return nullcontext()
        return reading(self.folder, f"an index of kind={self.kind}", "build it again or load it with engine='rebuild'")

    def _check_ids(self, ids: Tensor) -> None:
        """Raise an error if rows are outside the database, which a damaged engine file can cause."""
        if self.engine_file is None or not ids.numel():
            return
        if int(ids.min()) < NOT_FOUND or int(ids.max()) >= self.items.rows:
            raise InvalidInputError(
                f"the index of kind={self.kind} names item {int(ids.max())} of {self.items.rows}; its own file is "
                "damaged: build it again, or load it with engine='rebuild'."
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
        from deephash.indexes.index_writing import write_index

        write_index(self, Path(folder))


def check_graph(links: int, ef_construction: int, ef_search: int) -> None:
    """Raise an error unless the settings of a neighbour graph are whole numbers from 1, and links fit in memory."""
    for name, value in (("links", links), ("ef_construction", ef_construction), ("ef_search", ef_search)):
        check_count(value, name)
    if links > MAX_LINKS:
        raise InvalidInputError(f"links={links}; expected 1 to {MAX_LINKS} neighbours of a node.")
