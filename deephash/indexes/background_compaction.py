"""Compaction of an open index in the background: a thread writes a new generation, while changes go on.

The thread starts from a copy of the items. Changes that are logged meanwhile are also put into a queue, from which the
thread carries them out and writes them into the log of the new generation. The next change after the thread has ended,
or `close`, lets `index.json` name the new generation, and the open index takes the new rows over. So only the thread
that changes the index ever changes it, and a kill at any moment leaves a whole generation with a log of all
acknowledged changes.
"""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deephash.indexes.base import Index
from deephash.indexes.change_log import LogEnd, encode_record, start_of_log
from deephash.indexes.changing_items import MutableItems
from deephash.indexes.index_folder import DESCRIPTION_FILE, LOG_FILE
from deephash.indexes.index_writing import new_generation, remove_generations, write_content
from deephash.indexes.item_rows import Change
from deephash.io.files import describe_error, flush, write_json

log = logging.getLogger(__name__)

MIN_LOG_BYTES = 1 << 20
"""Size of the log from which an index may be compacted."""
MAX_SHARE = 0.5
"""Size of the log, or number of removed items, in shares of the index, from which it is compacted. Compactions then add
about a tenth to the processor time of adds; with a smaller share they add more. Loading replays the log, which at this
share takes about ten times the time of loading a compacted index."""


class BackgroundCompaction:
    """A new generation that a thread writes.

    Args:
        index: the open index; its items are copied at once.
        folder: its folder, which is locked.
    """

    def __init__(self, index: Index, folder: Path) -> None:
        self.folder, self.generation = folder, new_generation()
        self.error: BaseException | None = None
        self.end = start_of_log(self.generation, index.bits)
        self._like, self._items = index, index.items.freeze()
        self._changes: deque[Change] = deque()
        self._description: dict[str, Any] = {}
        self.fresh: Index | None = None
        self._thread = threading.Thread(target=self._run, name="deephash-compaction", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread still writes."""
        return self._thread.is_alive()

    def take(self, change: Change) -> None:
        """Carry out a change, which is logged, in the new generation, too."""
        self._changes.append(change)

    def finish(self) -> tuple[Index, LogEnd]:
        """Wait for the thread, and let the folder name the new generation.

        Returns:
            The new index, and the end of its log.

        Raises:
            StorageError: the disk does not accept it.
            OSError: likewise.
        """
        self._thread.join()
        if self.error is not None:
            raise self.error
        self._carry_out()
        flush(self.path)
        write_json(self.folder / DESCRIPTION_FILE, self._description)
        remove_generations(self.folder, self.generation)
        assert self.fresh is not None
        return self.fresh, self.end

    def discard(self) -> None:
        """Wait for the thread, and remove what it wrote."""
        self._thread.join()
        shutil.rmtree(self.folder / self.generation, ignore_errors=True)

    @property
    def path(self) -> Path:
        """The log of the new generation."""
        return self.folder / self.generation / LOG_FILE

    def _run(self) -> None:
        try:
            like, items = self._like, self._items
            items.compact()
            fresh = type(like).restore(torch.from_numpy(items.codes), like.bits, like.settings, None)
            fresh.items, fresh.hasher = items, like.hasher
            self._description = write_content(fresh, self.folder, self.generation, has_log=True)
            self.fresh = fresh
            self._carry_out()
            flush(self.path)
        except BaseException as error:
            self.error = error

    def _carry_out(self) -> None:
        """Carry out the changes of the queue, and log them without a flush."""
        assert self.fresh is not None
        with self.path.open("ab") as file:
            while self._changes:
                change = self._changes.popleft()
                record, self.end = encode_record(change, self.end)
                file.write(record)
                self.fresh.apply(change)


def is_due(index: MutableItems, description: Mapping[str, Any], content: int, end: LogEnd, patience: float = 1) -> bool:
    """Return whether the log of an open index is long, or contains many removals.

    Args:
        index: the index.
        description: content of `index.json` of its generation.
        content: bytes of the files of the generation.
        end: end of the log.
        patience: factor of the limits, above 1 after compactions that failed.
    """
    if end.place <= MIN_LOG_BYTES * patience or not index.size:
        return False
    removed = description["size"] + index.next_id - description["next_id"] - index.size
    return end.place > MAX_SHARE * content * patience or removed > MAX_SHARE * description["size"] * patience


def report_failure(folder: Path, error: BaseException) -> None:
    """Log that a compaction failed."""
    log.warning(
        "%s: the compaction in the background failed (%s); the index and its log are complete.",
        folder,
        describe_error(error),
    )
