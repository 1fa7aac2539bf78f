"""Items that can be added, changed and removed: the part of an index that does not search."""

from abc import ABC
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash import registry
from deephash.codes import as_codes
from deephash.conversion import PlainArguments, convert_numpy_numbers
from deephash.indexes.change_log import LogEnd
from deephash.indexes.item_rows import ADD, Change, Items
from deephash.indexes.neighbour_lists import NOT_FOUND
from deephash.ranking.distance import Hamming
from deephash.ranking.inputs import check_ranked
from deephash.validation import InvalidInputError

# Fewer removed rows are kept.
MIN_REMOVED = 1024


class Journal(Protocol):
    """A log on disk of the changes of an index."""

    def check_open(self) -> None:
        """Raise an error if no change can be logged."""

    def commit(self, index: "MutableItems", change: Change) -> None:
        """Log a change, flush the log to the disk, and carry the change out."""

    def compact(self, index: "MutableItems") -> None:
        """Save the index without its log."""

    def close(self, index: "MutableItems") -> None:
        """Finish a compaction, and let others write the log."""


class MutableItems(PlainArguments, ABC):
    """Codes, ids and names of items, and their changes.

    Args:
        codes: packed codes, uint8 (N, ⌈b/8⌉), on the CPU.
        bits: code length b.

    Raises:
        InvalidInputError: no codes, or codes of the wrong length.
    """

    takes_changes: bool = False
    """Whether items can be added and removed."""
    max_removed: ClassVar[float] = 1.0
    """Share of removed rows from which a removal drops them; 1 for engines whose rebuild may take minutes."""

    def __init__(self, codes: Tensor, bits: int) -> None:
        codes = as_codes(codes)
        self.distance = Hamming(bits)
        check_ranked(codes[:0], codes, self.distance)
        if len(codes) == 0:
            raise InvalidInputError("codes have 0 rows; expected at least one to search.")
        self.items = Items(codes.contiguous().numpy())
        self.journal: Journal | None = None
        self.log_end: LogEnd | None = None
        # A server searches in one thread and changes the index in another.
        self.guard: AbstractContextManager[Any] = nullcontext()

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.distance.bits

    @property
    def kind(self) -> str:
        """Registry key of this class."""
        return registry.get_word(type(self))

    def __len__(self) -> int:
        return self.size

    @property
    def size(self) -> int:
        """Number of items N."""
        return self.items.live

    @property
    def next_id(self) -> int:
        """Id of the next item to be added, which is the number of items that the index has had."""
        return self.items.next_id

    @property
    def codes(self) -> Tensor:
        """Packed codes of all rows, uint8 (rows, ⌈b/8⌉); after removals, also of removed items until `compact`."""
        return torch.from_numpy(self.items.codes)

    @property
    def item_codes(self) -> Tensor:
        """Packed codes of the items, uint8 (N, ⌈b/8⌉), in the order of `ids` and `names`."""
        alive = self.items.alive
        return self.codes if alive is None else torch.from_numpy(self.items.codes[alive])

    @property
    def ids(self) -> Tensor:
        """Ids of the items, int64 (N,), ascending."""
        return torch.from_numpy(self.items.ids_of(self.items.live_rows()))

    @property
    def names(self) -> NDArray[Any] | None:
        """Names of the items (N,), in the order of their ids; None if the index has no names."""
        names, alive = self.items.names, self.items.alive
        return names if names is None or alive is None else names[alive]

    def named(self, ids: Tensor) -> NDArray[Any]:
        """Return the user's names of ids, in the same shape; the ids themselves if the index has no names.

        Args:
            ids: int64, any shape, as `search` returns; -1 (not found) becomes -1 or the empty string.

        Raises:
            InvalidInputError: an id of an item that has been removed.
        """
        wanted = ids.numpy()
        if self.items.names is None:
            return wanted
        rows = self.items.rows_of(wanted)
        if ((rows < 0) & (wanted >= 0)).any():
            raise InvalidInputError(f"no item has the id {wanted[(rows < 0) & (wanted >= 0)][0]}; search again.")
        found: NDArray[Any] = self.items.names[rows]
        found[wanted < 0] = "" if found.dtype.kind == "U" else NOT_FOUND
        return found

    def _extend(self, first: int) -> None:
        """Take the rows of `codes` from `first` on into the index; only called if `takes_changes`."""
        raise NotImplementedError(f"{type(self).__name__} takes no changes")

    def _build(self) -> None:
        """Build the index again from `codes`; only called if `takes_changes`."""

    def _renumber(self, new_rows: NDArray[np.int64] | None) -> None:
        """Give rows their new numbers (old rows,), -1 for removed ones; None keeps them. Take in all later rows.

        This index is a shallow copy of one that other threads search: replace its arrays, and change none in place.
        """
        self._build()

    @convert_numpy_numbers
    def add(self, codes: Tensor | ArrayLike, names: ArrayLike | None = None, columns: Any = None) -> Tensor:
        """Add items.

        Args:
            codes: packed codes uint8 (n, ⌈b/8⌉).
            names: names of the items (n,), none of which the index contains; None if the index has no names.
            columns: further columns, for an index that was built with `columns=`: a table with the same ones.

        Returns:
            Ids of the items, int64 (n,): the next numbers.

        Raises:
            InvalidInputError: a kind that takes no changes, codes of the wrong length, or names or columns that do not
                fit; nothing is added.
        """
        change = self.check_add(codes, names, columns)
        first = self.items.next_id
        self._commit(change)
        return torch.arange(first, self.items.next_id)

    @convert_numpy_numbers
    def update(self, codes: Tensor | ArrayLike, names: ArrayLike, columns: Any = None) -> Tensor:
        """Give items new codes. An item keeps its name and gets a new id, as if it were removed and added again.

        Args:
            codes: packed codes uint8 (n, ⌈b/8⌉).
            names: names of the items (n,).
            columns: further columns, as for `add`.

        Returns:
            New ids of the items, int64 (n,).

        Raises:
            InvalidInputError: as for `add`, an index without names, or an unknown name; nothing is changed.
        """
        change = self.check_update(codes, names, columns)
        first = self.items.next_id
        self._commit(change)
        return torch.arange(first, self.items.next_id)

    @convert_numpy_numbers
    def remove(self, names: ArrayLike) -> None:
        """Remove items.

        Args:
            names: names of the items (n,), or their ids if the index has no names.

        Raises:
            InvalidInputError: a kind that takes no changes, or an unknown name or given twice; nothing is
                removed.
        """
        self._check_changeable()
        self._commit(self.items.check_remove(names))

    def compact(self) -> None:
        """Drop the rows of removed items, and build the index again from the others. Ids and names stay.

        An index that `deephash.open_index` opened is also saved, and its log starts again.

        Raises:
            InvalidInputError: a kind that takes no changes, or an index without items.
        """
        self._check_changeable()
        self.rebuild()
        if self.journal is not None:
            self.journal.compact(self)

    def rebuild(self) -> None:
        """Drop the rows of removed items, and build the index again in memory.

        Other threads search the index as it was until the new one is complete.
        """
        self._check_items()
        fresh = copy(self)
        if self.items.alive is not None:
            fresh.items = self.items.freeze()
        fresh._renumber(fresh.items.compact())
        with self.guard:
            self.adopt(fresh)

    def _check_items(self) -> None:
        """Raise an error if the index has no items."""
        if not self.size:
            raise InvalidInputError("all items have been removed; add some first.")

    def adopt(self, other: "MutableItems") -> None:
        """Take over the rows and tables of another index of this kind, which must not be used again."""
        own = ("journal", "guard", "log_end", "hasher", "folder", "extra_columns", "choice")
        vars(self).update({name: value for name, value in vars(other).items() if name not in own})

    def check_add(self, codes: Tensor | ArrayLike, names: ArrayLike | None, columns: Any) -> Change:
        """Check items to add; arguments and errors are those of `add`."""
        return self.items.check_add(self._check_codes(codes), names, columns)

    def check_update(self, codes: Tensor | ArrayLike, names: ArrayLike, columns: Any) -> Change:
        """Check new codes of items; arguments and errors are those of `update`."""
        return self.items.check_update(self._check_codes(codes), names, columns)

    def _commit(self, change: Change) -> None:
        """Log a checked change, if the index has a log, and carry it out."""
        if not len(change):
            return
        if self.journal is None:
            self.apply(change)
        else:
            self.journal.commit(self, change)

    def apply(self, change: Change) -> None:
        """Carry out a checked change in memory, and build the index again if that is due."""
        with self.guard:
            self._carry_out(change)
        if self.size and self._is_rebuild_due():
            self.rebuild()

    def _carry_out(self, change: Change) -> None:
        """Carry out a checked change; no thread searches meanwhile."""
        if change.operation != ADD and change.names is not None:
            self.items.remove(self.items.find(change.names))
        if change.codes is not None:
            self._extend(self.items.append(change.codes, change.names, change.columns))

    def _is_rebuild_due(self) -> bool:
        """Return whether a change has left enough removed rows to build the index again."""
        return self.items.rows - self.size > max(MIN_REMOVED, self.max_removed * self.items.rows)

    def _check_changeable(self) -> None:
        if not self.takes_changes:
            raise InvalidInputError(f"kind={self.kind} takes no changes; build the index again, or use mih or flat.")
        if self.journal is not None:
            self.journal.check_open()

    def _check_codes(self, codes: Tensor | ArrayLike) -> NDArray[np.uint8]:
        """Check codes to add."""
        self._check_changeable()
        codes = as_codes(codes)
        if codes.ndim != 2:
            raise InvalidInputError(f"codes are {tuple(codes.shape)}; expected packed codes uint8 (n, bytes).")
        check_ranked(codes[:0], codes, self.distance)
        checked: NDArray[np.uint8] = codes.cpu().contiguous().numpy()
        return checked

    def close(self) -> None:
        """Let others write to the folder of an index that `deephash.open_index` opened; it can still be searched.

        A compaction in the background is finished first.
        """
        if self.journal is not None:
            self.journal.close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
