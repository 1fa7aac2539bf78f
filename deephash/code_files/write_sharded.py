"""Build an index in shards from files of codes, and replace the release in its folder."""

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from deephash.code_files.code_shards import CodeShards, open_shards
from deephash.code_files.index_codes import HasherInfo, save_index
from deephash.code_files.repeated_ids import report_repeated
from deephash.functional.shares import get_share
from deephash.indexes.index_writing import check_own_folder, remove_subfolders
from deephash.indexes.sharded_index import (
    DESCRIPTION,
    FORMAT,
    LEFTOVER,
    RELEASE,
    IndexRelease,
    IndexShard,
    is_sharded,
    read_release,
)
from deephash.io.files import read_json, write_json
from deephash.io.ownership import lock_for_writing
from deephash.validation import InvalidInputError, check_count


def write_sharded(source: Path, out: Path, shards: int | None, kind: str, settings: dict[str, Any]) -> IndexRelease:
    """Build an index for each shard of a database, and put them in place as a new release.

    Args:
        source: file of codes, or folder of such files.
        out: folder of the sharded index; its release is replaced.
        shards: number of shards; None uses one for each file.
        kind: kind of each index.
        settings: settings of the kind.

    Raises:
        InvalidInputError: no codes, more shards than codes, a folder with other files, or an error of the build.
    """
    database = open_shards([source])
    bounds = list(list_file_bounds(database.rows) if shards is None else split_evenly(len(database), shards))
    check_own_folder(out, DESCRIPTION, FORMAT, LEFTOVER, "a sharded index")
    report_repeated(database)
    with lock_for_writing(out, str(out)):
        return write_release(database, bounds, out, kind, settings)


def write_release(
    database: CodeShards, bounds: list[range], out: Path, kind: str, settings: dict[str, Any]
) -> IndexRelease:
    """Build the index of each shard, and put all of them in place as a new release.

    Raises:
        InvalidInputError: an error of the build.
        StorageError: the disk is full or not writable; the previous release is unchanged.
    """
    name = f"release-{secrets.token_hex(8)}"
    hasher = HasherInfo(database.hasher, database.bits, database.distance)
    previous = read_json(out / DESCRIPTION, "an index in shards") if is_sharded(out) else {}
    written = []
    try:
        for number, rows in enumerate(bounds):
            codes = torch.cat([block.codes for block in database.blocks(rows)])
            folder = out / name / f"shard-{number:05d}"
            save_index(codes, database.read_ids(rows), hasher, kind, settings, folder)
            written.append(IndexShard(f"{name}/{folder.name}", rows.start, len(rows)))
        description = {"release": name, "bits": database.bits, "hasher": database.hasher}
        write_json(out / DESCRIPTION, {"format": FORMAT, **description, "shards": [asdict(shard) for shard in written]})
    except BaseException:
        # If the description is in place but was not flushed, keep the release that it names.
        if not is_current(out, name):
            shutil.rmtree(out / name, ignore_errors=True)
        raise
    remove_subfolders(out, RELEASE, keep=(name, previous.get("release")))
    return read_release(out)


def is_current(folder: Path, name: str) -> bool:
    """Return whether a folder's current release has this name."""
    try:
        return read_release(folder).name == name
    except InvalidInputError:
        return False


def list_file_bounds(rows: tuple[int, ...]) -> Iterator[range]:
    """Yield the rows of each file."""
    first = 0
    for count in rows:
        yield range(first, first + count)
        first += count


def split_evenly(rows: int, shards: int) -> Iterator[range]:
    """Return ranges of rows that differ in length by at most one."""
    check_count(shards, "shards")
    if shards > rows:
        raise InvalidInputError(f"shards={shards} exceeds the {rows} codes; lower it.")
    return (get_share(rows, shard, shards) for shard in range(shards))
