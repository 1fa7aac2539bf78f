"""An index in shards: a folder of saved indexes that are one database, replaced together.

`shards.json` names a release, the subfolder of its shards. A new release is written beside the current one, and
`shards.json` is replaced in one step. The previous release stays for processes that still read it.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deephash.indexes.index_folder import load_index, read_description
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
    """

    folder: str
    start: int
    size: int


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

    Raises:
        InvalidInputError: no index in the folder, or a damaged one.
    """
    if is_sharded(folder):
        return read_release(folder)
    stored = read_description(folder)
    shard = IndexShard(str(folder.resolve()), 0, stored["size"])
    return IndexRelease(stored["generation"], stored["bits"], stored["hasher"], (shard,))


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
        placed = (IndexShard(str(folder.resolve() / shard.folder), shard.start, shard.size) for shard in shards)
        return IndexRelease(stored["release"], int(stored["bits"]), str(stored["hasher"]), tuple(placed))


def check_shards(shards: Sequence[IndexShard]) -> None:
    """Raise ValueError unless the rows of the shards are consecutive, and their folders are inside the index."""
    first = 0
    for shard in shards:
        if type(shard.start) is not int or type(shard.size) is not int or shard.start != first or shard.size < 1:
            raise ValueError(f"a shard has the rows {shard.start!r} and the size {shard.size!r}; expected row {first}")
        folder = Path(shard.folder)
        if folder.is_absolute() or ".." in folder.parts:
            raise ValueError(f"{shard.folder} leads out of its folder")
        first += shard.size


@dataclass(frozen=True)
class ShardAnswer:
    """Neighbours that one shard found.

    Args:
        distances: int64 (q, k_s).
        rows: rows of the whole database, int64 (q, k_s); -1 for neighbours that were not found.
        names: names of these items, whole numbers or strings (q, k_s).
    """

    distances: np.ndarray
    rows: np.ndarray
    names: np.ndarray


class OpenShard:
    """A loaded shard. Searches from several threads run one after the other, since a search uses all cores.

    Args:
        shard: the shard to load.

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, shard: IndexShard) -> None:
        self.start = shard.start
        self.index = load_index(shard.folder)
        self.lock = threading.Lock()

    def search(self, queries: Tensor, k: int) -> ShardAnswer:
        """Find the k nearest items, or all items if the shard has fewer."""
        with self.lock:
            distances, ids = self.index.search(queries, min(k, len(self.index)))
        rows = torch.where(ids < 0, ids, ids + self.start)
        return ShardAnswer(distances.numpy(), rows.numpy(), self.index.named(ids))


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

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, release: IndexRelease) -> None:
        self.release = release
        self.shards = [OpenShard(shard) for shard in release.shards]

    def search(self, queries: Tensor, k: int) -> ShardAnswer:
        """Find the k nearest items of packed codes uint8 (q, ⌈b/8⌉).

        Raises:
            InvalidInputError: k exceeds the size of the database, or codes of the wrong length.
        """
        if k > self.release.size:
            raise InvalidInputError(f"k={k} exceeds the {self.release.size} items of the database; lower k.")
        return merge_answers([shard.search(queries, k) for shard in self.shards], k)


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
