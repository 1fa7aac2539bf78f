"""Open a saved index for changes, each of which is on the disk before it counts."""

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from deephash.indexes.background_compaction import BackgroundCompaction, is_due, report_failure
from deephash.indexes.base import Index
from deephash.indexes.change_log import LogEnd, create_log, encode_record, is_log, start_of_log
from deephash.indexes.changing_items import MutableItems
from deephash.indexes.index_folder import (
    DESCRIPTION_FILE,
    LOG_FILE,
    TRY,
    VERSION_OF_CHANGES,
    load_index,
    read_description,
)
from deephash.indexes.index_writing import is_current, write_generation
from deephash.indexes.item_rows import Change
from deephash.io.files import write_json, writing
from deephash.io.ownership import lock_for_writing
from deephash.validation import InvalidInputError


def open_index(folder: str | Path, engine: str = TRY, *, compaction: bool = True) -> Index:
    """Open a saved index for changes: `add`, `update` and `remove` return after the disk has the change.

    Changes are appended to a log beside the index, and `load_index` reads both. `compact` writes the index again and
    starts an empty log. Only one process can have an index open; others can load and search it as it was when they
    loaded it. Close the index, or open it in a `with` statement.

    Args:
        folder: the folder that `save` wrote.
        engine: treatment of an engine's own file; see `load_index`.
        compaction: whether a thread compacts the index in the background when its log, or the number of removed items,
            is half as large as the index, and the log has at least 1 MiB. This takes as much memory as another index.

    Raises:
        InvalidInputError: no index or a damaged one, a kind that takes no changes, or an index that another process has
            open.
        StorageError: a folder that cannot be written to.

    Examples:
        >>> import deephash, numpy as np, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> deephash.index(np.zeros((2, 8), np.uint8), "flat", names=["a", "b"]).save(folder)
        >>> with open_index(folder) as index:
        ...     added = index.add(np.ones((1, 8), np.uint8), names=["c"])
        ...     index.remove(["a"])
        >>> deephash.load_index(folder).names.tolist()
        ['b', 'c']
    """
    folder = Path(folder)
    description = read_description(folder)
    with ExitStack() as lock:
        lock.enter_context(lock_for_writing(folder, str(folder)))
        index = load_index(folder, engine)
        if not index.takes_changes:
            raise InvalidInputError(
                f"{folder} is of kind={index.kind}, which takes no changes; build the index again, or use mih or flat."
            )
        description = read_description(folder)
        if not description.get("log", False):
            start_log(folder, description, index)
        assert index.log_end is not None
        log = ChangeLog(folder, description["generation"], index.log_end, lock, compaction=compaction)
        log.lock = lock.pop_all()
        index.journal = log
    return index


def start_log(folder: Path, description: dict[str, Any], index: Index) -> None:
    """Add a log to the current generation of a locked folder."""
    with writing(folder, "the index is unchanged"):
        create_log(folder / description["generation"] / LOG_FILE, description["generation"], index.bits)
        changed = {"version": VERSION_OF_CHANGES, "next_id": index.items.next_id, "log": True}
        write_json(folder / DESCRIPTION_FILE, description | changed)
    index.log_end = start_of_log(description["generation"], index.bits)


class ChangeLog:
    """The log of an open index.

    Args:
        folder: folder of the index, which is locked.
        generation: its current generation.
        end: end of the whole records of its log; what follows is removed.
        lock: lock of the folder, which `close` releases.
        compaction: whether to compact in the background.
    """

    def __init__(
        self, folder: Path, generation: str, end: LogEnd, lock: ExitStack, *, compaction: bool = False
    ) -> None:
        self.folder, self.lock, self.compacts = folder, lock, compaction
        self.compaction: BackgroundCompaction | None = None
        self.patience = 1.0
        # Why no change can be logged.
        self.fault: str | None = None
        self._open(generation, end)

    def _open(self, generation: str, end: LogEnd) -> None:
        self.generation, self.end = generation, end
        self.path = self.folder / generation / LOG_FILE
        self.description = read_description(self.folder)
        self.content = sum(file.stat().st_size for file in self.path.parent.rglob("*") if file != self.path)
        with writing(self.path, "its changes are unchanged"):
            self.file = self.path.open("r+b", buffering=0)
            if self.file.seek(0, os.SEEK_END) != end.place:
                self._cut()

    def _cut(self) -> None:
        """Remove everything after the whole records."""
        self.file.truncate(self.end.place)
        os.fsync(self.file.fileno())

    def check_open(self) -> None:
        """Raise an error if no change can be logged."""
        if self.fault is not None:
            raise InvalidInputError(f"{self.folder}: {self.fault}; open it again with deephash.open_index.")
        if not is_log(self.file, self.path):
            # A change would go into a file that no reader finds, and a compaction into a new folder.
            raise InvalidInputError(
                f"{self.path} is not the log that was opened; the folder was moved, removed or replaced: open the "
                "index again with deephash.open_index."
            )

    def commit(self, index: MutableItems, change: Change) -> None:
        """Log a change, flush the log to the disk, and carry the change out.

        Raises:
            StorageError: the disk does not accept it; nothing is changed.
        """
        self.check_open()
        if self.compaction is not None and not self.compaction.is_running:
            self._finish_compaction(index)
        record, end = encode_record(change, self.end)
        self.fault = "a change was interrupted"
        try:
            with writing(self.path, "nothing is changed"):
                self._append(record)
        except BaseException:
            with suppress(OSError):
                self._cut()
                self.fault = None
            raise
        self.end = end
        index.apply(change)
        self.fault = None
        if self.compaction is not None:
            self.compaction.take(change)
        elif self._is_due(index):
            assert isinstance(index, Index)
            self.compaction = BackgroundCompaction(index, self.folder)

    def _is_due(self, index: MutableItems) -> bool:
        """Return whether to compact in the background."""
        return self.compacts and is_due(index, self.description, self.content, self.end, self.patience)

    def _finish_compaction(self, index: MutableItems) -> None:
        """Wait for a compaction in the background, and take its result over; after an error, all stays as it is."""
        compaction, self.compaction = self.compaction, None
        assert compaction is not None
        self.fault = "its compaction was interrupted"
        try:
            fresh, end = compaction.finish()
        except Exception as error:
            if is_current(self.folder, compaction.generation):
                raise  # The disk may lose the new description, and so the changes of the new log.
            compaction.discard()
            self.patience *= 2
            report_failure(self.folder, error)
        else:
            self.file.close()
            self._open(compaction.generation, end)
            with index.guard:
                index.adopt(fresh)
            self.patience = 1.0
        self.fault = None

    def _append(self, record: bytes) -> None:
        rest = memoryview(record)
        self.file.seek(self.end.place)
        while rest:
            rest = rest[self.file.write(rest) :]
        # The size of the file is flushed, too, but not its times.
        getattr(os, "fdatasync", os.fsync)(self.file.fileno())

    def compact(self, index: MutableItems) -> None:
        """Save the index as a new generation with an empty log.

        Raises:
            StorageError: the disk does not accept it; the folder has the earlier generation and its log.
        """
        self.check_open()
        assert isinstance(index, Index)
        if self.compaction is not None:
            self.compaction.discard()
            self.compaction = None
        self.fault = "its compaction was interrupted"
        try:
            generation = write_generation(index, self.folder, has_log=True)
        except BaseException:
            with suppress(InvalidInputError):
                self.fault = None if read_description(self.folder)["generation"] == self.generation else self.fault
            raise
        self.file.close()
        self._open(generation, start_of_log(generation, index.bits))
        self.fault = None

    def close(self, index: MutableItems) -> None:
        """Finish a compaction in the background, and let others write to the folder."""
        try:
            if self.compaction is not None and self.fault is None:
                self._finish_compaction(index)
        finally:
            if self.compaction is not None:
                self.compaction.discard()
            self.fault = self.fault or "the index is closed"
            self.file.close()
            self.lock.close()
