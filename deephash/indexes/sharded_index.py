"""An index in shards: a folder of saved indexes that are one database, replaced together.

`shards.json` names a release, the subfolder of its shards. A new release is written beside the current one, and
`shards.json` is replaced in one step. The previous release stays for processes that still read it. Later changes are in
one log beside the shards of a release (`sharded_changes`), so that a change of several shards is whole.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deephash.indexes.base import Index
from deephash.indexes.change_log import LogEnd, replay_log
from deephash.indexes.index_folder import LOG_FILE, load_index, read_description
from deephash.indexes.row_filter import Where
from deephash.indexes.sharded_items import ShardedItems, replay_records
from deephash.io.files import read_json, reading
from deephash.io.ownership import LOCK_FILE
from deephash.ranking.nearest_merge import nearest_places
from deephash.validation import InvalidInputError

FORMAT = "deephash sharded index"
DESCRIPTION = "shards.json"
RELEASE = re.compile(r"release-[0-9a-f]{16}")
# Files that a killed call may leave in a new folder.
LEFTOVER = re.compile(rf"{RELEASE.pattern}|{re.escape(LOCK_FILE)}|shards\.json\.[0-9a-f]{{8}}\.partial")


@dataclass(frozen=True)
class IndexShard:
    """One shard of a release.

    Args:
        folder: folder of the saved index.
        start: row of the first item in the whole database.
        size: number of items.
        has_own_ids: whether the saved index has the ids of the whole database; otherwise they begin at `start`.
    """

    folder: str
    start: int
    size: int
    has_own_ids: bool = False


@dataclass(frozen=True)
class IndexRelease:
    """All shards of one database, which are searched together.

    Args:
        name: unique name of the release, which replies contain.
        bits: code length b.
        hasher: identity of the hasher that made the codes, if it is known.
        shards: shards in the order of their rows.
    """

    name: str
    bits: int
    hasher: str | None
    shards: tuple[IndexShard, ...]

    @property
    def size(self) -> int:
        """Number of items N."""
        return sum(shard.size for shard in self.shards)


def is_sharded(folder: Path) -> bool:
    """Return whether a folder contains an index in shards."""
    return (folder / DESCRIPTION).exists()


def read_current_release(folder: Path) -> IndexRelease:
    """Return the release of an index in shards, or a saved index as a release of one shard.

    The name of an index with a log of changes contains the length of the log. Its number of items is known once it is
    loaded.

    Raises:
        InvalidInputError: no index in the folder, or a damaged one.
    """
    if is_sharded(folder):
        release = read_release(folder)
        log = folder / release.name / LOG_FILE
        return replace(release, name=f"{release.name}+{log.stat().st_size}") if log.exists() else release
    stored = read_description(folder)
    shard = IndexShard(str(folder.resolve()), 0, stored["size"])
    name = stored["generation"]
    if stored.get("log", False):
        path = folder / name / LOG_FILE
        with reading(path, "the changes of an index"):
            name = f"{name}+{path.stat().st_size}"
    return IndexRelease(name, stored["bits"], stored["hasher"], (shard,))


def read_release(folder: Path) -> IndexRelease:
    """Read the current release of an index in shards.

    Raises:
        InvalidInputError: no sharded index in the folder, or a damaged one.
    """
    stored = read_json(folder / DESCRIPTION, "an index in shards (deephash index --shards)")
    with reading(folder / DESCRIPTION, "an index in shards", "build the index again"):
        if stored["format"] != FORMAT or not RELEASE.fullmatch(stored["release"]):
            raise ValueError(f"format {stored['format']!r}")
        shards = [IndexShard(**shard) for shard in stored["shards"]]
        check_shards(shards)
        placed = (replace(shard, folder=str(folder.resolve() / shard.folder)) for shard in shards)
        return IndexRelease(stored["release"], int(stored["bits"]), str(stored["hasher"]), tuple(placed))


def check_shards(shards: Sequence[IndexShard]) -> None:
    """Raise ValueError unless the rows of the shards are consecutive, and their folders are inside the index."""
    first = 0
    for shard in shards:
        if type(shard.start) is not int or type(shard.size) is not int or shard.start != first or shard.size < 1:
            raise ValueError(f"a shard has the rows {shard.start!r} and the size {shard.size!r}; expected row {first}")
        if type(shard.has_own_ids) is not bool:
            raise ValueError(f"a shard has has_own_ids={shard.has_own_ids!r}")
        folder = Path(shard.folder)
        if folder.is_absolute() or ".." in folder.parts:
            raise ValueError(f"{shard.folder} leads out of its folder")
        first += shard.size


@dataclass(frozen=True)
class ShardAnswer:
    """Neighbours that one shard found.

    Args:
        distances: int64 (q, k_s).
        rows: ids in the whole database, int64 (q, k_s); -1 for neighbours that were not found.
        names: names of these items, whole numbers or strings (q, k_s).
    """

    distances: np.ndarray
    rows: np.ndarray
    names: np.ndarray


class OpenShard:
    """A loaded shard. Searches from several threads run one after the other, since a search uses all cores.

    Args:
        shard: the shard to load.
        index: its index, if it is loaded already.

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, shard: IndexShard, index: Index | None = None) -> None:
        self.offset = 0 if shard.has_own_ids else shard.start
        self.index = load_index(shard.folder) if index is None else index
        self.lock = threading.Lock()

    def search(self, queries: Tensor, k: int, where: Where | None = None) -> ShardAnswer:
        """Find the k nearest items, or all items if the shard has fewer; `where` is a filter of `Index.search`."""
        with self.lock:
            if not len(self.index):
                empty = np.empty((len(queries), 0), np.int64)
                return ShardAnswer(empty, empty, empty)
            distances, ids = self.index.search(queries, min(k, len(self.index)), where=where)
            names = self.index.named(ids)
        rows = torch.where(ids < 0, ids, ids + self.offset)
        return ShardAnswer(distances.numpy(), rows.numpy(), names)


def merge_answers(answers: list[ShardAnswer], k: int) -> ShardAnswer:
    """Merge the answers of shards to the k nearest items, or to all if they found fewer.

    Raises:
        InvalidInputError: no answers.
    """
    if not answers:
        raise InvalidInputError("there are no answers to merge; pass at least one.")
    if len(answers) == 1:
        return answers[0]
    distances, rows, names = (
        np.concatenate([getattr(answer, part) for answer in answers], 1) for part in ("distances", "rows", "names")
    )
    places = nearest_places(torch.from_numpy(distances), torch.from_numpy(rows), min(k, rows.shape[1])).numpy()
    return ShardAnswer(*(np.take_along_axis(part, places, 1) for part in (distances, rows, names)))


class OpenRelease:
    """All shards of a release, loaded in one process, with the same answers as one index of all codes.

    Args:
        release: the release to load.
        index: the index of its only shard, if it is loaded already.

    Raises:
        InvalidInputError: a damaged index, or a shard that was changed apart from the others.
    """

    def __init__(self, release: IndexRelease, index: Index | None = None) -> None:
        self.shards = [OpenShard(shard, index) for shard in release.shards]
        self.generation = release.name.partition("+")[0]
        self.is_sharded = len(self.shards) > 1 or RELEASE.fullmatch(self.generation) is not None
        if self.is_sharded:
            for shard, opened in zip(release.shards, self.shards, strict=True):
                if len(opened.index) != shard.size or opened.index.log_end is not None:
                    raise InvalidInputError(f"{shard.folder} was changed apart from the other shards; build it again.")
        self.release = release
        self.items: ShardedItems | None = None
        self.log_end: LogEnd | None = None
        # A search and a change of several shards exclude each other.
        self.lock = threading.RLock()
        if self.is_sharded and "+" in release.name:
            self.log_end = replay_records(self.log_path, self.generation, self.items_of_all())
        self.count(release.name)

    @property
    def log_path(self) -> Path:
        """Log of the changes of the shards of a release."""
        return Path(self.release.shards[0].folder).parent / LOG_FILE

    @property
    def size(self) -> int:
        """Number of items."""
        return sum(len(shard.index) for shard in self.shards)

    def items_of_all(self) -> ShardedItems:
        """Return the items of all shards, which then have ids of the whole database; for changes and filters."""
        if self.items is None:
            self.items = ShardedItems([shard.index for shard in self.shards], [shard.offset for shard in self.shards])
            for shard in self.shards:
                shard.offset = 0
        return self.items

    def count(self, name: str) -> None:
        """Name the release, and update its number of items, after a change."""
        first, shards = 0, []
        for shard, opened in zip(self.release.shards, self.shards, strict=True):
            shards.append(replace(shard, start=first, size=len(opened.index)))
            first += len(opened.index)
        self.release = replace(self.release, name=name, shards=tuple(shards))

    def follow(self, release: IndexRelease) -> bool:
        """Carry out the changes that were logged since the index was loaded; False if it was replaced.

        Raises:
            InvalidInputError: a damaged log.
        """
        if release.name.partition("+")[0] != self.generation:
            return False
        if self.is_sharded:
            with self.lock:
                path, items = self.log_path, self.items_of_all()
                self.log_end = replay_records(path, self.generation, items, self.log_end)
        else:
            index = self.shards[0].index
            if index.log_end is None:
                return False
            with self.shards[0].lock:
                path = Path(release.shards[0].folder) / self.generation / LOG_FILE
                index.log_end = replay_log(path, self.generation, index, index.log_end)
        self.count(release.name)
        return True

    def search(self, queries: Tensor, k: int, where: Where | None = None) -> ShardAnswer:
        """Find the k nearest items of packed codes uint8 (q, ⌈b/8⌉); `where` is a filter of `Index.search`.

        Raises:
            InvalidInputError: k exceeds the size of the database, or codes of the wrong length.
        """
        if k > self.size:
            raise InvalidInputError(f"k={k} exceeds the {self.size} items of the database; lower k.")
        if not self.is_sharded:
            return self.shards[0].search(queries, k, where)
        with self.lock:
            filters = [None] * len(self.shards) if where is None else self.items_of_all().split_filter(where)
            pairs = zip(self.shards, filters, strict=True)
            return merge_answers([shard.search(queries, k, where) for shard, where in pairs], k)


def open_release(folder: Path) -> OpenRelease:
    """Load the current release of a folder, or the one that replaces it while it is loaded.

    Raises:
        InvalidInputError: no index in the folder, or a damaged one.
    """
    while True:
        release = read_current_release(folder)
        try:
            return OpenRelease(release)
        except InvalidInputError:
            if read_current_release(folder).name == release.name:
                raise
