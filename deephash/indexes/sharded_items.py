"""The items of all shards of an index: their ids, names, changes and filters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deephash.codes import as_codes
from deephash.indexes.base import Index
from deephash.indexes.change_log import LogEnd, read_records, start_of_log
from deephash.indexes.change_record import decode_change
from deephash.indexes.item_rows import ADD, REMOVE, UPDATE, Change, check_distinct, is_empty
from deephash.indexes.row_filter import Where, as_mask, is_expression
from deephash.io.files import reading
from deephash.io.item_names import as_names
from deephash.validation import InvalidInputError


class ShardedItems:
    """The items of several indexes that are one database.

    The items of the indexes get ids of the whole database. If the names of all items are their ids, the database has no
    names.

    Args:
        shards: loaded indexes.
        offsets: first id of each, which is added to its own ids.

    Raises:
        InvalidInputError: the names of some shards are numbers, and those of others words.
    """

    def __init__(self, shards: Sequence[Index], offsets: Sequence[int]) -> None:
        self.shards = list(shards)
        held = [shard.items for shard in self.shards]
        self.next_id = max(items.next_id + offset for items, offset in zip(held, offsets, strict=True))
        for items, offset in zip(held, offsets, strict=True):
            items.set_ids(items.ids + offset, self.next_id)
        is_named = [items.names is not None and not np.array_equal(items.names, items.ids) for items in held]
        for items in held:
            names = items.names if items.names is not None else items.ids.copy()
            items.set_names(names if any(is_named) else None)
        kinds = {items.names.dtype.kind for items in held if items.names is not None}
        if len(kinds) > 1:
            raise InvalidInputError("the names of some shards are numbers, and those of others words; build it again.")

    @property
    def size(self) -> int:
        """Number of items."""
        return sum(map(len, self.shards))

    @property
    def has_names(self) -> bool:
        """Whether the items have names; otherwise they are called by their ids."""
        return self.shards[0].items.names is not None

    def list_ids(self) -> NDArray[np.int64]:
        """Return the ids of all items, ascending."""
        return np.sort(np.concatenate([shard.ids.numpy() for shard in self.shards]))

    def list_names(self) -> NDArray[Any] | None:
        """Return the names of all items in the order of their ids; None without names."""
        if not self.has_names:
            return None
        order = np.argsort(np.concatenate([shard.ids.numpy() for shard in self.shards]))
        named: NDArray[Any] = np.concatenate([shard.names for shard in self.shards if shard.names is not None])[order]
        return named

    def get_names(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the names of ids of any shape; -1 or the empty string for -1. Without names, return the ids."""
        if not self.has_names:
            return ids
        held, names = self.list_ids(), self.list_names()
        assert names is not None
        missing = ids < 0
        places = np.searchsorted(held, np.where(missing, held[0], ids)).clip(max=len(held) - 1)
        if (held[places] != np.where(missing, held[0], ids)).any():
            raise InvalidInputError("an id is of no item; search again.")
        found: NDArray[Any] = names[places]
        found[missing] = "" if found.dtype.kind == "U" else -1
        return found

    def find_items(self, names: Any, what: str) -> tuple[NDArray[Any], list[NDArray[np.bool_]]]:
        """Convert names, and return them with, for each shard, which of them it contains.

        Raises:
            InvalidInputError: unknown names, given twice, or of another type.
        """
        converted = np.empty(0, np.int64) if is_empty(names) else as_names(names, what)
        if not len(converted):
            return converted, [np.empty(0, bool)] * len(self.shards)
        check_distinct(converted, what)
        places = [shard.items.find(converted) >= 0 for shard in self.shards]
        known = np.logical_or.reduce(places)
        if not known.all():
            missing = converted[~known].tolist()
            raise InvalidInputError(
                f"{what} contain {missing[0]!r}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
                + " that the index does not contain; leave them out."
            )
        return converted, places

    def check_add(self, codes: Any, names: Any, columns: Any = None) -> Change:
        """Check items to add; arguments and errors are those of `Index.add`."""
        change = self.shards[0].check_add(codes, names, columns)
        if change.names is not None and len(change.names):
            for shard in self.shards[1:]:
                known = shard.items.find(change.names) >= 0
                if known.any():
                    name = change.names[known].tolist()[0]
                    raise InvalidInputError(f"the index contains {name!r} already; update it, or remove it first.")
        return change

    def check_update(self, codes: Any, names: Any, columns: Any = None) -> Change:
        """Check new codes of items; arguments and errors are those of `Index.update`."""
        if not self.has_names:
            raise InvalidInputError("the index has no names to update; remove items by their ids, and add others.")
        found, _ = self.find_items(names, "names")
        added = self.shards[0].check_add(as_codes(codes)[:0], found[:0], columns)
        checked = self.shards[0]._check_codes(codes)
        if len(found) != len(checked):
            raise InvalidInputError(f"there are {len(found)} names and {len(checked)} codes; give one for each.")
        return Change(UPDATE, checked, found, added.columns)

    def check_remove(self, names: Any) -> Change:
        """Check items to remove; arguments and errors are those of `Index.remove`."""
        return Change(REMOVE, names=self.find_items(names, "names")[0])

    def apply(self, change: Change) -> None:
        """Carry out a checked change: added items go to the smallest shard."""
        if change.operation != ADD and change.names is not None:
            for shard in self.shards:
                inside = change.names[shard.items.find(change.names) >= 0]
                if len(inside):
                    shard.apply(Change(REMOVE, names=inside))
        if change.codes is not None:
            smallest = min(self.shards, key=len)
            smallest.items.next_id = self.next_id
            smallest.apply(Change(ADD, change.codes, change.names, change.columns))
            self.next_id = smallest.items.next_id

    def split_filter(self, where: Where) -> list[Where]:
        """Return the filter of each shard: its part of a mask or of names, or the whole condition.

        Raises:
            InvalidInputError: a mask of another length, unknown names, or a condition on shards of a database.
        """
        if isinstance(where, str) or is_expression(where):
            if any(shard.keeps_columns for shard in self.shards):
                raise InvalidInputError("conditions on databases in shards are not supported; give a list of names.")
            return [where] * len(self.shards)
        mask = as_mask(where)
        if mask is None:
            names, places = self.find_items(where, "the names of where")
            return [names[place] for place in places]
        if mask.shape != (self.size,):
            raise InvalidInputError(
                f"where is a mask of shape {mask.shape}; expected ({self.size},), one for each item."
            )
        ids = self.list_ids()
        return [mask[np.searchsorted(ids, shard.ids.numpy())] for shard in self.shards]


def replay_records(path: Path, name: str, items: ShardedItems, start: LogEnd | None = None) -> LogEnd:
    """Carry out the changes of the log of a release in memory.

    Args:
        path: the log.
        name: name of the release.
        items: the items as they were saved, or with the changes up to `start`.
        start: end of the changes that the items contain already; None for none.

    Returns:
        The end of its whole records.

    Raises:
        InvalidInputError: a damaged log.
    """
    first = items.shards[0]
    end = start_of_log(name, first.bits) if start is None else start
    with reading(path, "the changes of an index", "restore it or build the index again"), path.open("rb") as file:
        for content, after in read_records(file, name, first.bits, start):
            change = decode_change(content, first.codes.shape[1])
            if change.operation == ADD:
                checked = items.check_add(change.codes, change.names, change.columns)
            elif change.operation == UPDATE:
                checked = items.check_update(change.codes, change.names, change.columns)
            else:
                checked = items.check_remove(change.names)
            items.apply(checked)
            end = after
    return end
