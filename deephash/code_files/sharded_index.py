"""An index in shards: a folder of saved indexes whose items are one database, replaced as a whole.

`shards.json` names a release, the subfolder of its shards. A new release is written beside the one before, and
`shards.json` put in place in one step; the release before stays for those who still read it.
"""

import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.code_files.code_shards import CodeShards, open_shards, read_ids
from deephash.code_files.index_codes import HasherInfo, save_index
from deephash.code_files.repeated_ids import report_repeated
from deephash.functional.shares import get_share
from deephash.indexes.index_folder import load_index, read_description
from deephash.io.files import read_json, reading, write_json
from deephash.io.ownership import LOCK_FILE, only_writer
from deephash.ranking.nearest_merge import nearest_places
from deephash.validation import InvalidInputError, check_count

FORMAT = "deephash sharded index"
DESCRIPTION = "shards.json"
RELEASE = re.compile(r"release-[0-9a-f]{16}")
# What a killed call may have left where no index is yet.
LEFTOVER = re.compile(rf"{RELEASE.pattern}|{re.escape(LOCK_FILE)}|shards\.json\.[0-9a-f]{{8}}\.partial")


@dataclass(frozen=True)
class IndexShard:
    """One shard of a release.

    Args:
        folder: of the saved index.
        start: the first item's row in the whole database.
        size: number of items.
    """

    folder: str
    start: int
    size: int


@dataclass(frozen=True)
class IndexRelease:
    """All shards of one database, which are searched together or not at all.

    Args:
        name: the release's own, from which replies can be told apart.
        bits: code length b.
        hasher: identity of the hasher that made the codes, where it is known.
        shards: in the order of their rows.
    """

    name: str
    bits: int
    hasher: str | None
    shards: tuple[IndexShard, ...]

    @property
    def size(self) -> int:
        """Number of items N."""
        return sum(shard.size for shard in self.shards)


def write_sharded(source: Path, out: Path, shards: int | None, kind: str, settings: dict[str, Any]) -> IndexRelease:
    """Build an index for each shard of a database, and put them in place as a new release.

    Args:
        source: file of codes, or folder of them.
        out: folder of the sharded index; the release there is replaced.
        shards: number of shards; None takes one for each file.
        kind: of each index.
        settings: the kind's own.

    Raises:
        InvalidInputError: no codes, more shards than codes, a folder of something else, or what building refuses.
    """
    database = open_shards([source])
    bounds = list(_bounds(database.rows) if shards is None else _even(len(database), shards))
    check_own_folder(out)
    report_repeated(database)
    with only_writer(out, str(out)):
        return write_release(database, bounds, out, kind, settings)


def check_own_folder(folder: Path) -> None:
    """Raise an error for a folder in which something else lies than an index in shards.

    Raises:
        InvalidInputError: naming it.
    """
    if is_sharded(folder):
        stored = read_json(folder / DESCRIPTION, "an index in shards", "give another folder, or remove it")
        if isinstance(stored, dict) and stored.get("format") == FORMAT:
            return
    elif not folder.exists() or (folder.is_dir() and all(LEFTOVER.fullmatch(path.name) for path in folder.iterdir())):
        return
    raise InvalidInputError(f"{folder} holds something else than a sharded index; give a folder of its own.")


def write_release(
    database: CodeShards, bounds: list[range], out: Path, kind: str, settings: dict[str, Any]
) -> IndexRelease:
    """Build the index of each shard, and put all of them in place as a new release.

    Raises:
        InvalidInputError: what building refuses.
        StorageError: the disk does not take it; the release before is unchanged.
    """
    name = f"release-{secrets.token_hex(8)}"
    maker = HasherInfo(database.hasher, database.bits, database.distance)
    written = []
    try:
        for number, rows in enumerate(bounds):
            codes = torch.cat([block.codes for block in database.blocks(rows)])
            folder = out / name / f"shard-{number:05d}"
            save_index(codes, ids_of(database, rows), maker, kind, settings, folder)
            written.append(IndexShard(f"{name}/{folder.name}", rows.start, len(rows)))
        description = {"release": name, "bits": database.bits, "hasher": database.hasher}
        before = read_json(out / DESCRIPTION, "an index in shards") if is_sharded(out) else {}
        write_json(out / DESCRIPTION, {"format": FORMAT, **description, "shards": [asdict(shard) for shard in written]})
    except BaseException:
        shutil.rmtree(out / name, ignore_errors=True)
        raise
    for path in out.iterdir():
        if RELEASE.fullmatch(path.name) and path.name not in (name, before.get("release")):
            shutil.rmtree(path, ignore_errors=True)
    return read_release(out)


def ids_of(database: CodeShards, rows: range) -> np.ndarray:
    """Ids of a range of rows; no file is read beyond it.

    Raises:
        InvalidInputError: a file without ids, or a damaged one.
    """
    pieces, first = [], 0
    for path, count in zip(database.paths, database.rows, strict=True):
        start, stop = max(rows.start, first), min(rows.stop, first + count)
        if start < stop:
            pieces.append(read_ids(path, range(start - first, stop - first)))
        first += count
    return np.concatenate(pieces)  # Numbers beside words become the words of their digits.


def _bounds(rows: tuple[int, ...]) -> Iterator[range]:
    first = 0
    for count in rows:
        yield range(first, first + count)
        first += count


def _even(rows: int, shards: int) -> Iterator[range]:
    check_count(shards, "shards")
    if shards > rows:
        raise InvalidInputError(f"shards={shards} exceeds the {rows} codes; lower it.")
    return (get_share(rows, shard, shards) for shard in range(shards))


def is_sharded(folder: Path) -> bool:
    """Whether a folder is of an index in shards."""
    return (folder / DESCRIPTION).exists()


def current_release(folder: Path) -> IndexRelease:
    """What is in place in a folder: the release of an index in shards, or a saved index as a release of one shard.

    Raises:
        InvalidInputError: no index there, or a damaged one.
    """
    if is_sharded(folder):
        return read_release(folder)
    stored = read_description(folder)
    shard = IndexShard(str(folder.resolve()), 0, stored["size"])
    return IndexRelease(stored["generation"], stored["bits"], stored["hasher"], (shard,))


def read_release(folder: Path) -> IndexRelease:
    """The release in place.

    Raises:
        InvalidInputError: no sharded index there, or a damaged one.
    """
    stored = read_json(folder / DESCRIPTION, "an index in shards (deephash index --shards)")
    with reading(folder / DESCRIPTION, "an index in shards", "build the index again"):
        if stored["format"] != FORMAT or not RELEASE.fullmatch(stored["release"]):
            raise ValueError(f"format {stored['format']!r}")
        shards = tuple(IndexShard(**shard) for shard in stored["shards"])
        check_shards(shards)
        placed = tuple(IndexShard(str(folder.resolve() / one.folder), one.start, one.size) for one in shards)
        return IndexRelease(stored["release"], int(stored["bits"]), str(stored["hasher"]), placed)


def check_shards(shards: Sequence[IndexShard]) -> None:
    """Raise an error for shards that do not follow each other, or whose folders lead elsewhere.

    Raises:
        ValueError: saying which.
    """
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
    """What one shard found.

    Args:
        distances: int64 (q, k_s).
        rows: of the whole database, int64 (q, k_s); -1 where too few were found.
        names: what these items are called, whole numbers or words (q, k_s).
    """

    distances: np.ndarray
    rows: np.ndarray
    names: np.ndarray


class OpenShard:
    """A shard, loaded to be searched; from several threads one after the other, since a search takes all its cores.

    Args:
        shard: which.

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, shard: IndexShard) -> None:
        self.start = shard.start
        self.index = load_index(shard.folder)
        self.lock = threading.Lock()

    def search(self, queries: Tensor, k: int) -> ShardAnswer:
        """The k nearest, or all items where the shard has fewer."""
        with self.lock:
            distances, ids = self.index.search(queries, min(k, len(self.index)))
        rows = torch.where(ids < 0, ids, ids + self.start)
        return ShardAnswer(distances.numpy(), rows.numpy(), self.index.named(ids))


def merge_answers(answers: list[ShardAnswer], k: int) -> ShardAnswer:
    """The k nearest of what shards found, or all where they found fewer.

    Raises:
        InvalidInputError: no answers.
    """
    if not answers:
        raise InvalidInputError("no shard gave an answer; ask at least one.")
    if len(answers) == 1:
        return answers[0]
    distances, rows, names = (
        np.concatenate([getattr(one, part) for one in answers], 1) for part in ("distances", "rows", "names")
    )
    near, found = torch.from_numpy(distances), torch.from_numpy(rows)
    places = nearest_places(near, found, min(k, rows.shape[1])).numpy()
    return ShardAnswer(*(np.take_along_axis(part, places, 1) for part in (distances, rows, names)))


class OpenRelease:
    """All shards of a release in one process, searched one after the other: the answer of one index of all codes.

    Args:
        release: which.

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, release: IndexRelease) -> None:
        self.release = release
        self.shards = [OpenShard(shard) for shard in release.shards]

    def search(self, queries: Tensor, k: int) -> ShardAnswer:
        """The k nearest of packed codes uint8 (q, ⌈b/8⌉).

        Raises:
            InvalidInputError: a k that the database does not have, or codes of another length.
        """
        if k > self.release.size:
            raise InvalidInputError(f"k={k} exceeds the {self.release.size} items of the database; lower k.")
        return merge_answers([shard.search(queries, k) for shard in self.shards], k)


def open_release(folder: Path) -> OpenRelease:
    """What is in place in a folder, loaded; where something else takes its place meanwhile, that.

    Raises:
        InvalidInputError: no index there, or a damaged one.
    """
    while True:
        release = current_release(folder)
        try:
            return OpenRelease(release)
        except InvalidInputError:
            if current_release(folder).name == release.name:
                raise
