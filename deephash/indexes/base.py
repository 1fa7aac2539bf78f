"""The contract of an index: packed codes, searched for the nearest or for all within a radius."""

import inspect
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.codes import as_codes
from deephash.conversion import PlainArguments, plain_numbers
from deephash.io.files import reading
from deephash.ranking.distance import Distance, Hamming
from deephash.ranking.inputs import check_ranked
from deephash.validation import InvalidInputError, check_count, check_whole

MAX_LINKS = 1024
"""Neighbours of a node of a graph; each takes 4 to 8 bytes an item."""
if TYPE_CHECKING:
    import polars

# The id in place of a neighbour that an approximate index did not find.
NOT_FOUND = -1


class Identified(Protocol):
    """A hasher, of one view or of two."""

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of what it is built of and its weights."""

    @property
    def bits(self) -> int:
        """Code length b."""

    @property
    def distance(self) -> Distance:
        """The distance that its codes are ranked by."""


class Encoding(Identified, Protocol):
    """A hasher of one view."""

    def encode(self, features: Tensor | ArrayLike) -> Tensor:
        """Packed codes uint8 (n, ⌈b/8⌉) of features (n, d)."""


@dataclass(frozen=True)
class WithinRadius:
    """What lies within a radius of each of q queries, query after query.

    Args:
        offsets: int64 (q + 1,), where each query's items begin and end.
        distances: int64 (offsets[q],), rising within a query.
        ids: int64, the same, rows of the database; the lower first among equal distances.
    """

    offsets: Tensor
    distances: Tensor
    ids: Tensor


class Index(PlainArguments, ABC):
    """A database of codes that is searched again and again.

    Subclasses implement `_search`, `_within` where their engine can, and `_write` where the engine has its own file.
    Ids are rows of the codes that the index was built from; `names` keeps what the items are called elsewhere. Codes
    stay in memory for rescoring and saving.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), on the CPU.
        bits: code length b.

    Raises:
        InvalidInputError: no codes, or none of that length.
    """

    exact: bool = True
    """Whether it finds the true nearest: the distances of a scan, and its ids but for ties at the last place."""
    trial: ClassVar[str] = ""
    """Name of the trial in `engine_trial`, by which a saved file of its own is opened first; empty for no trial."""
    engine_file: str | None = None
    """Name of the engine's own file or folder in a saved index; such a class takes its path as `saved`."""
    keeps_columns: bool = False
    """Whether it keeps names and further columns beside the codes; such a class takes them as `columns`."""
    not_settings: ClassVar[frozenset[str]] = frozenset({"codes", "bits", "saved", "columns"})
    """Arguments that are no settings of a saved index."""

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
        self.further: tuple[str, ...] = ()  # Columns of the user's, which the database keeps.

    def __len__(self) -> int:
        return self.size

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.distance.bits

    @property
    def kind(self) -> str:
        """Registry key of this class."""
        return type(self).__module__.rpartition(".")[2]

    def named(self, ids: Tensor) -> NDArray[Any]:
        """What ids that were found are called elsewhere, of the same shape: `names`, or the ids where there are none.

        Args:
            ids: int64, any shape, as `search` gives; -1, where it found too few, is called -1 or the empty word.
        """
        places = ids.numpy()
        if self.names is None:
            return places
        found: NDArray[Any] = self.names[places]
        found[places < 0] = "" if found.dtype.kind == "U" else -1
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """What this was built with beside its codes, by the constructor's names, in values that JSON holds."""
        return {name: getattr(self, name) for name in self.setting_names()}

    @classmethod
    def setting_names(cls) -> list[str]:
        """The constructor's arguments that are settings."""
        return sorted(set(inspect.signature(cls).parameters) - cls.not_settings)

    @classmethod
    def restored(
        cls,
        codes: Tensor,
        bits: int,
        settings: dict[str, Any],
        engine: Path | None,
        columns: "polars.DataFrame | None" = None,
    ) -> Self:
        """The index that was saved, from its parts.

        Args:
            codes: as it was built from.
            bits: code length b.
            settings: as `settings` gave.
            engine: the engine's own file, where it has one.
            columns: what a new file of a class that keeps columns holds beside codes.
        """
        own = {"saved": engine, "columns": columns}
        return cls(codes, bits, **settings, **{name: given for name, given in own.items() if given is not None})

    def _write(self, path: Path) -> None:
        """Write the engine's own file or folder, where `engine_file` says that there is one."""
        raise NotImplementedError(f"{type(self).__name__} writes no file of its own")

    @abstractmethod
    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and ids int64 (q, k) of checked queries, q at least 1, k from 1 to N."""

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        raise InvalidInputError(
            f"{type(self).__name__} finds the k nearest alone; for a radius choose kind=mih or flat."
        )

    @plain_numbers
    def search(self, queries: Tensor | ArrayLike, k: int = 10) -> tuple[Tensor, Tensor]:
        """The k nearest codes of each query, nearest first; among equals the lower id.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            k: number of neighbours, 1 to N.

        Returns:
            Distances and ids, int64 (q, k). Where an approximate index finds fewer than k, the last ids are -1, at
            distance b + 1.

        Raises:
            InvalidInputError: codes of another length, or a k that the database does not have.
        """
        queries = as_codes(queries, "query codes")
        check_ranked(queries, queries[:0], self.distance)
        check_count(k, "k")
        if k > self.size:
            raise InvalidInputError(f"k={k} exceeds the {self.size} items of the database; lower k.")
        if len(queries) == 0:
            empty = torch.empty(0, k, dtype=torch.int64)
            return empty, empty.clone()
        with self._answering():
            distances, ids = self._search(queries.cpu().contiguous(), k)
        self._check_ids(ids)
        return distances, ids

    @plain_numbers
    def within(self, queries: Tensor | ArrayLike, radius: int) -> WithinRadius:
        """All codes within a Hamming radius of each query, nearest first; among equals the lower id first.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            radius: largest distance r, 0 to b.

        Raises:
            InvalidInputError: codes of another length, a radius beyond that, or an index that cannot.
        """
        queries = as_codes(queries, "query codes")
        check_ranked(queries, queries[:0], self.distance)
        check_whole(radius, 0, "radius", self.bits)
        with self._answering():
            found = self._within(queries.cpu().contiguous(), radius)
        self._check_ids(found.ids)
        return found

    def _answering(self) -> AbstractContextManager[None]:
        """Turns what an engine raises of its own file into one line, where the index was loaded from a folder."""
        if self.folder is None:
            return nullcontext()
        return reading(self.folder, f"an index of kind={self.kind}", "build it again or load it with engine='rebuild'")

    def _check_ids(self, ids: Tensor) -> None:
        """Raise an error for ids of no item, which a damaged file of an engine's own can give."""
        if ids.numel() and not (int(ids.min()) >= NOT_FOUND and int(ids.max()) < self.size):
            raise InvalidInputError(
                f"the index of kind={self.kind} names item {int(ids.max())} of {self.size}; its own file is damaged: "
                "build it again, or load it with engine='rebuild'."
            )

    def check_hasher(self, hasher: Identified) -> None:
        """Raise an error for a hasher whose codes this index does not hold.

        Raises:
            InvalidInputError: another hasher than the index was made with, or no hasher is recorded in the index.
        """
        if self.hasher is None:
            raise InvalidInputError(
                "the index does not say which hasher made its codes; build it by deephash.index(codes, hasher=hasher)."
            )
        if hasher.identity != self.hasher:
            raise InvalidInputError(
                f"the index holds codes of the hasher {self.hasher}, and this one is {hasher.identity}; search with "
                "the hasher that made them, or encode the database again."
            )

    def search_features(self, hasher: Encoding, features: Tensor | ArrayLike, k: int = 10) -> tuple[Tensor, Tensor]:
        """The k nearest codes of features, encoded by the hasher that the index was made with.

        Args:
            hasher: of one view; of two, check the pair by `check_hasher` and search with codes of one view.
            features: numbers (q, d).
            k: number of neighbours, 1 to N.

        Returns:
            Distances and ids, int64 (q, k).

        Raises:
            InvalidInputError: another hasher, or what it or `search` refuses.
        """
        self.check_hasher(hasher)
        return self.search(hasher.encode(features), k)

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, for `deephash.load_index`; one that is there is replaced in one step.

        Raises:
            InvalidInputError: a folder that cannot be written, or a setting that JSON cannot hold.
        """
        from deephash.indexes.index_folder import write

        write(self, Path(folder))


def check_links(links: int) -> None:
    """Raise an error for more neighbours of a node than any graph of codes gains by, which would fill the memory.

    Raises:
        InvalidInputError: naming the number.
    """
    if links > MAX_LINKS:
        raise InvalidInputError(f"links={links}; expected 1 to {MAX_LINKS} neighbours of a node.")


def ordered_nearest(distances: Tensor, ids: Tensor, farthest: int) -> tuple[Tensor, Tensor]:
    """An engine's neighbours by distance, then by id; those it did not find, of an id below 0, at the end.

    Args:
        distances: (q, k) of any dtype that holds whole numbers, in any order.
        ids: (q, k).
        farthest: the distance that is given to those not found, b + 1.

    Returns:
        Distances and ids, int64 (q, k).
    """
    ids = ids.to(torch.int64)
    missing = ids < 0
    distances = distances.masked_fill(missing, 0).to(torch.int64).masked_fill(missing, farthest)
    order = ids.argsort(dim=1, stable=True)
    order = order.gather(1, distances.gather(1, order).argsort(dim=1, stable=True))
    return distances.gather(1, order), ids.gather(1, order).clamp_min(NOT_FOUND)


def ordered_within(offsets: Tensor, distances: Tensor, ids: Tensor) -> WithinRadius:
    """Each query's items by distance, then by id, whatever order they come in."""
    queries = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    order = ids.argsort(stable=True)
    order = order[distances[order].argsort(stable=True)]
    order = order[queries[order].argsort(stable=True)]
    return WithinRadius(offsets, distances[order], ids[order])
