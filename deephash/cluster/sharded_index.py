"""An index in shards: a folder of saved indexes whose items are one database, replaced as a whole.

`shards.json` names a release, the subfolder of its shards. A new release is written beside the one before, and
`shards.json` put in place in one step; the release before stays for those who still read it.
"""

import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.cluster.code_shards import CodeShards, open_shards
from deephash.cluster.shares import share_of
from deephash.data.array_file import read_array
from deephash.encoding.code_file import CodePaths
from deephash.encoding.index_codes import Maker, save_index
from deephash.files import read_json, write_json
from deephash.index_storage import load_index
from deephash.ranking.nearest_merge import merge_nearest
from deephash.validation import InvalidInputError, check_count

FORMAT = "deephash sharded index"
DESCRIPTION = "shards.json"
RELEASE = re.compile(r"release-[0-9a-f]{16}")


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
        hasher: identity of the hasher that made the codes.
        shards: in the order of their rows.
    """

    name: str
    bits: int
    hasher: str
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
    if out.exists() and not (out / DESCRIPTION).exists() and any(out.iterdir()):
        raise InvalidInputError(f"{out} holds something else than a sharded index; give a folder of its own.")
    name = f"release-{secrets.token_hex(8)}"
    maker = Maker(database.hasher, database.bits, database.distance)
    written = []
    try:
        for number, rows in enumerate(bounds):
            codes = torch.cat([block.codes for block in database.blocks(rows)])
            folder = out / name / f"shard-{number:05d}"
            save_index(codes, ids_of(database, rows), maker, kind, settings, folder)
            written.append(IndexShard(f"{name}/{folder.name}", rows.start, len(rows)))
        description = {"release": name, "bits": database.bits, "hasher": database.hasher}
        before = read_json(out / DESCRIPTION, "an index in shards") if (out / DESCRIPTION).exists() else {}
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
            pieces.append(np.array(read_array(CodePaths(path).ids)[start - first : stop - first]))
        first += count
    return np.concatenate(pieces)


def _bounds(rows: tuple[int, ...]) -> Iterator[range]:
    first = 0
    for count in rows:
        yield range(first, first + count)
        first += count


def _even(rows: int, shards: int) -> Iterator[range]:
    check_count(shards, "shards")
    if shards > rows:
        raise InvalidInputError(f"shards={shards} exceeds the {rows} codes; lower it.")
    return (share_of(rows, shard, shards) for shard in range(shards))


def read_release(folder: Path) -> IndexRelease:
    """The release in place.

    Raises:
        InvalidInputError: no sharded index there, or a damaged one.
    """
    stored = read_json(folder / DESCRIPTION, "an index in shards (deephash index --shards)")
    try:
        if stored["format"] != FORMAT or not RELEASE.fullmatch(stored["release"]):
            raise ValueError(f"format {stored['format']!r}")
        shards = tuple(IndexShard(**shard) for shard in stored["shards"])
        placed = tuple(IndexShard(str(folder.resolve() / one.folder), one.start, one.size) for one in shards)
        return IndexRelease(stored["release"], int(stored["bits"]), str(stored["hasher"]), placed)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{folder / DESCRIPTION} is damaged ({error}); build the index again.") from error


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
    """A shard, loaded to be searched.

    Args:
        shard: which.

    Raises:
        InvalidInputError: a damaged index.
    """

    def __init__(self, shard: IndexShard) -> None:
        self.start = shard.start
        self.index = load_index(shard.folder)
        self.is_named = self.index.names is not None

    def search(self, queries: Tensor, k: int) -> ShardAnswer:
        """The k nearest, or all items where the shard has fewer."""
        distances, ids = self.index.search(queries, min(k, len(self.index)))
        rows = torch.where(ids < 0, ids, ids + self.start)
        names = self.index.named(ids) if self.is_named else rows.numpy()
        return ShardAnswer(distances.numpy(), rows.numpy(), names)


def merge_answers(answers: list[ShardAnswer], k: int) -> ShardAnswer:
    """The k nearest of what shards found, or all where they found fewer.

    Raises:
        InvalidInputError: no answers.
    """
    distances, rows = ([torch.from_numpy(getattr(one, part)) for one in answers] for part in ("distances", "rows"))
    found = sum(one.shape[1] for one in rows)
    near, items = merge_nearest(distances, rows, min(k, found))
    every_row, every_name = (np.concatenate([getattr(one, part) for one in answers], 1) for part in ("rows", "names"))
    order = every_row.argsort(axis=1, kind="stable")
    sorted_rows = np.take_along_axis(every_row, order, 1)
    places = np.stack([row.searchsorted(wanted) for row, wanted in zip(sorted_rows, items.numpy(), strict=True)])
    names = np.take_along_axis(every_name, np.take_along_axis(order, places, 1), 1)
    return ShardAnswer(near.numpy(), items.numpy(), names)
