"""The manifest of an encoding in shards: which are done, with checksums, so that each is made once and stays whole.

Records are appended to `manifest.jsonl` as shards come in; `manifest.json`, the last file, says that all are there.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deephash.code_files.code_file import CodePaths
from deephash.indexes.index_folder import digest
from deephash.io.files import read_json, write_json, writing
from deephash.io.ownership import LOCK_FILE
from deephash.validation import InvalidInputError

FORMAT = "deephash shards"
MANIFEST, PROGRESS = "manifest.json", "manifest.jsonl"
SHARD_FILE = re.compile(r"shard-\d{6,}\.(npy|ids\.npy|json|bad\.json)")


@dataclass(frozen=True)
class ShardRecord:
    """A shard that is done.

    Args:
        shard: its number.
        start: the first row of the source.
        stop: the row after its last.
        rows: number of codes.
        bad: rows that cannot be encoded, listed in `.bad.json` beside the shard.
        digests: SHA-256 of its files by name; of none where no row could be encoded.
    """

    shard: int
    start: int
    stop: int
    rows: int
    bad: int
    digests: Mapping[str, str]


def shard_name(shard: int) -> str:
    """Name of a shard's file of codes."""
    return f"shard-{shard:06d}.npy"


def shard_digests(folder: Path, shard: int) -> dict[str, str]:
    """SHA-256 of a shard's files of codes and ids by name."""
    paths = CodePaths(folder / shard_name(shard))
    return {path.name: digest(path) for path in (paths.codes, paths.ids)}


def begin(folder: Path, task: Mapping[str, Any], overwrite: bool) -> dict[int, ShardRecord]:
    """The shards that earlier calls with the same task made, and that are still whole.

    Args:
        folder: of the shards.
        task: what is encoded by what, in JSON values.
        overwrite: whether shards of another task are left behind, to be replaced.

    Raises:
        InvalidInputError: shards of another task, or something else, lie there.
    """
    progress = folder / PROGRESS
    if not progress.exists():
        check_folder(folder, overwrite)
        return anew(folder, task)
    # A line that a kill or damage spoilt spoils no other.
    lines = progress.read_bytes().decode(errors="replace").splitlines()
    try:
        stored = json.loads(lines[0])
        differing = [name for name in task if stored["task"][name] != task[name]]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        if overwrite:
            return anew(folder, task)
        raise InvalidInputError(f"{progress} is damaged; remove {folder} and encode again.") from error
    if differing and not overwrite:
        raise InvalidInputError(
            f"{folder} holds an encoding with another {' and '.join(differing)}; go on with that, give another "
            "folder, or begin again with --overwrite."
        )
    if differing:
        return anew(folder, task)
    done = {}
    for line in lines[1:]:
        try:
            record = noted_record(line)
        except ValueError:
            continue  # A line that a kill cut off; its shard is made again.
        if is_whole(folder, record):
            done[record.shard] = record
    return done


def noted_record(line: str) -> ShardRecord:
    """A shard that a line of the progress notes.

    Raises:
        ValueError: a line that was cut off or damaged.
    """
    try:
        record = ShardRecord(**json.loads(line))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    numbers = (record.shard, record.start, record.stop, record.rows, record.bad)
    if not all(type(number) is int and number >= 0 for number in numbers) or not isinstance(record.digests, dict):
        raise ValueError(f"{record} is no shard")
    return record


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise an error for a folder of something else.

    Raises:
        InvalidInputError: naming it.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; give a folder for the shards.")
    if overwrite or not folder.exists() or (folder / PROGRESS).exists():
        return
    if any(file.name != LOCK_FILE for file in folder.iterdir()):
        raise InvalidInputError(f"{folder} holds something else; give a new folder, or --overwrite.")


def anew(folder: Path, task: Mapping[str, Any]) -> dict[int, ShardRecord]:
    """Begin a manifest without shards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / PROGRESS).unlink(missing_ok=True)
    for file in folder.iterdir():
        if SHARD_FILE.fullmatch(file.name):
            file.unlink()
    append(folder, {"task": dict(task)})
    return {}


def note(folder: Path, record: ShardRecord) -> None:
    """Add a shard that is done."""
    append(folder, asdict(record))


def append(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line and bring it to the disk; after a line that was cut off, on a line of its own."""
    path = folder / PROGRESS
    with writing(path, "the shards that are done are kept for the same command"), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(entry) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def is_whole(folder: Path, record: ShardRecord) -> bool:
    """Whether a shard's files are those that were noted."""
    try:
        return not record.rows or shard_digests(folder, record.shard) == record.digests
    except OSError:
        return False


def finish(folder: Path, description: Mapping[str, Any], records: Mapping[int, ShardRecord]) -> None:
    """Write `manifest.json`, of shards in the order of their rows."""
    shards = [asdict(records[shard]) for shard in sorted(records)]
    write_json(folder / MANIFEST, {"format": FORMAT, **description, "shards": shards})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete encoding.

    Raises:
        InvalidInputError: none, or another file.
    """
    stored = read_json(folder / MANIFEST, "the manifest of an encoding in shards")
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise InvalidInputError(f"{folder / MANIFEST} is no manifest of shards; encode again.")
    return stored
