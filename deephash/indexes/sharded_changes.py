"""Changes of an index in shards: one log for all shards, so that a change is carried out in all of them or in none."""

import os
import secrets
import shutil
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.codes import as_codes
from deephash.conversion import convert_numpy_numbers
from deephash.indexes.change_log import encode_record, is_log, log_head, start_of_log
from deephash.indexes.index_folder import LOG_FILE
from deephash.indexes.index_writing import remove_subfolders
from deephash.indexes.item_rows import Change
from deephash.indexes.row_filter import Where
from deephash.indexes.sharded_index import (
    DESCRIPTION,
    RELEASE,
    IndexShard,
    OpenRelease,
    read_current_release,
    read_release,
)
from deephash.io.files import flush, read_json, write_json, writing
from deephash.io.ownership import lock_for_writing
from deephash.validation import InvalidInputError


def open_sharded(folder: str | Path) -> "ShardedIndex":
    """Open an index in shards for changes: `add`, `update` and `remove` return after the disk has the change.

    Only one process can have an index open. Others load it with the changes that are on the disk; the service of an
    index in shards serves the last compaction.

    Args:
        folder: folder that `deephash index --shards` wrote.

    Raises:
        InvalidInputError: no index in shards or a damaged one, a kind that takes no changes, or an index that another
            process has open.
        StorageError: a folder that cannot be written to.
    """
    folder = Path(folder)
    read_release(folder)
    with ExitStack() as lock:
        lock.enter_context(lock_for_writing(folder, str(folder)))
        index = ShardedIndex(folder)
        index.lock = lock.pop_all()
    return index


class ShardedIndex:
    """An index in shards that is open for changes; see `open_sharded`.

    Added items go to the smallest shard. Ids ascend and are never used again.

    Args:
        folder: folder of the index, which is locked.

    Raises:
        InvalidInputError: a damaged index, or a kind that takes no changes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = ExitStack()
        release = read_current_release(folder)
        self.opened = OpenRelease(release)
        self.items = self.opened.items_of_all()
        kinds = {shard.index.kind for shard in self.opened.shards if not shard.index.takes_changes}
        if kinds:
            raise InvalidInputError(
                f"{folder} is of kind={min(kinds)}, which takes no changes; build the index again, or use mih or flat."
            )
        name = self.opened.generation
        self.end = self.opened.log_end or start_of_log(name, self.bits)
        if self.opened.log_end is None:
            create_whole_log(folder / name, name, self.bits)
        self.fault: str | None = None
        self._open(name)

    def _open(self, name: str) -> None:
        self.path = self.folder / name / LOG_FILE
        with writing(self.path, "its changes are unchanged"):
            self.file = self.path.open("r+b", buffering=0)
            if self.file.seek(0, os.SEEK_END) != self.end.place:
                self._cut()

    def _cut(self) -> None:
        """Remove everything after the whole records."""
        self.file.truncate(self.end.place)
        os.fsync(self.file.fileno())

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.opened.release.bits

    @property
    def hasher(self) -> str | None:
        """Identity of the hasher that made the codes."""
        return self.opened.release.hasher

    @property
    def next_id(self) -> int:
        """Id of the next item to be added."""
        return self.items.next_id

    @property
    def ids(self) -> Tensor:
        """Ids of the items, int64 (N,), ascending."""
        return torch.from_numpy(self.items.list_ids())

    @property
    def names(self) -> NDArray[Any] | None:
        """Names of the items (N,), in the order of their ids; None if the index has no names."""
        return self.items.list_names()

    def __len__(self) -> int:
        return self.items.size

    def named(self, ids: Tensor) -> NDArray[Any]:
        """Return the user's names of ids, in the same shape; the ids themselves if the index has no names."""
        return self.items.get_names(ids.numpy())

    @convert_numpy_numbers
    def search(self, queries: Tensor | ArrayLike, k: int = 10, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Find the k nearest codes of each query; arguments, results and errors are those of `Index.search`."""
        found = self.opened.search(as_codes(queries, "query codes"), k, where)
        return torch.from_numpy(found.distances), torch.from_numpy(found.rows)

    @convert_numpy_numbers
    def add(self, codes: Tensor | ArrayLike, names: ArrayLike | None = None, columns: Any = None) -> Tensor:
        """Add items, and return their ids; arguments and errors are those of `Index.add`."""
        first = self.next_id
        self._commit(self.items.check_add(codes, names, columns))
        return torch.arange(first, self.next_id)

    @convert_numpy_numbers
    def update(self, codes: Tensor | ArrayLike, names: ArrayLike, columns: Any = None) -> Tensor:
        """Give items new codes, and return their new ids; arguments and errors are those of `Index.update`."""
        first = self.next_id
        self._commit(self.items.check_update(codes, names, columns))
        return torch.arange(first, self.next_id)

    @convert_numpy_numbers
    def remove(self, names: ArrayLike) -> None:
        """Remove items by their names, or by their ids without names; errors are those of `Index.remove`."""
        self._commit(self.items.check_remove(names))

    def _check_open(self) -> None:
        """Raise an error if no change can be logged."""
        if self.fault is not None:
            raise InvalidInputError(f"{self.folder}: {self.fault}; open it again.")
        if not is_log(self.file, self.path):
            raise InvalidInputError(
                f"{self.path} is not the log that was opened; the folder was moved, removed or replaced: open it again."
            )

    def _commit(self, change: Change) -> None:
        """Log a change, flush the log to the disk, and carry the change out."""
        if not len(change):
            return
        self._check_open()
        record, end = encode_record(change, self.end)
        self.fault = "a change was interrupted"
        try:
            with writing(self.path, "nothing is changed"):
                rest = memoryview(record)
                self.file.seek(self.end.place)
                while rest:
                    rest = rest[self.file.write(rest) :]
                getattr(os, "fdatasync", os.fsync)(self.file.fileno())
        except BaseException:
            with suppress(OSError):
                self._cut()
                self.fault = None
            raise
        self.end = end
        with self.opened.lock:
            self.items.apply(change)
            self.opened.log_end = end
            self.opened.count(f"{self.opened.generation}+{end.place}")
        self.fault = None

    def compact(self) -> None:
        """Write all shards again without removed items, as a new release with an empty log; empty shards are dropped.

        Raises:
            InvalidInputError: an index without items.
            StorageError: the disk does not accept it; the earlier release and its log are unchanged.
        """
        self._check_open()
        if not len(self):
            raise InvalidInputError("all items have been removed; add some first.")
        name = f"release-{secrets.token_hex(8)}"
        stored = read_json(self.folder / DESCRIPTION, "an index in shards")
        self.fault = "its compaction was interrupted"
        try:
            shards = self._write_shards(name)
            create_whole_log(self.folder / name, name, self.bits)
            description = {**stored, "release": name, "shards": [asdict(shard) for shard in shards]}
            write_json(self.folder / DESCRIPTION, description)
        except BaseException:
            with suppress(InvalidInputError):
                if read_release(self.folder).name != name:
                    shutil.rmtree(self.folder / name, ignore_errors=True)
                    self.fault = None
            raise
        remove_subfolders(self.folder, RELEASE, keep=(name, stored["release"]))
        self.file.close()
        self.opened = OpenRelease(read_current_release(self.folder))
        self.items = self.opened.items_of_all()
        self.end = start_of_log(name, self.bits)
        self._open(name)
        self.fault = None

    def _write_shards(self, name: str) -> list[IndexShard]:
        """Write the shards that have items as the folders of a release."""
        written: list[IndexShard] = []
        first = 0
        for shard in (opened.index for opened in self.opened.shards if len(opened.index)):
            shard.items.next_id = self.next_id
            folder = self.folder / name / f"shard-{len(written):05d}"
            shard.save(folder)
            written.append(IndexShard(f"{name}/{folder.name}", first, len(shard), has_own_ids=True))
            first += len(shard)
        return written

    def close(self) -> None:
        """Let others write to the folder; the index can still be searched."""
        self.fault = self.fault or "the index is closed"
        self.file.close()
        self.lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_whole_log(folder: Path, name: str, bits: int) -> None:
    """Write a log without records into the folder of a release, so that no reader finds a part of its head."""
    with writing(folder, "the index is unchanged"):
        partial = folder / f"{LOG_FILE}.partial"
        partial.write_bytes(log_head(name, bits))
        flush(partial)
        partial.replace(folder / LOG_FILE)
        flush(folder)
