"""The manifest of an encoding in shards. It lists the shards that are done and their checksums.

A record is appended to `manifest.jsonl` for each shard that is done, so that no shard is encoded twice.
`manifest.json` is written last, when all shards are done.
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
from deephash.io.files import write_json, writing
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
        start: first row of the source.
        stop: row after the last.
        rows: number of codes.
        bad: number of rows that cannot be encoded, listed in `.bad.json` beside the shard.
        digests: SHA-256 of its files by name; empty if no row could be encoded.
    """

    shard: int
    start: int
    stop: int
    rows: int
    bad: int
    digests: Mapping[str, str]


def name_shard_file(shard: int) -> str:
    """Return the name of a shard's file of codes."""
    return f"shard-{shard:06d}.npy"


def digest_shard(folder: Path, shard: int) -> dict[str, str]:
    """Return the SHA-256 of a shard's files of codes and ids, by name."""
    paths = CodePaths(folder / name_shard_file(shard))
    return {path.name: digest(path) for path in (paths.codes, paths.ids)}


def read_progress(folder: Path, task: Mapping[str, Any], overwrite: bool) -> dict[int, ShardRecord]:
    """Return the intact shards of earlier calls with the same task; start a manifest if there is none.

    Args:
        folder: folder of the shards.
        task: the encoding, as JSON values.
        overwrite: whether to replace shards of another task.

    Raises:
        InvalidInputError: the folder contains shards of another task, or other files.
    """
    progress = folder / PROGRESS
    if not progress.exists():
        check_folder(folder, overwrite)
        return start_manifest(folder, task)
    # A line that is cut off or damaged must not affect the others.
    lines = progress.read_bytes().decode(errors="replace").splitlines()
    try:
        stored = json.loads(lines[0])
        differing = [name for name in task if stored["task"][name] != task[name]]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        if overwrite:
            return start_manifest(folder, task)
        raise InvalidInputError(f"{progress} is damaged; remove {folder} and encode again.") from error
    if differing and not overwrite:
        raise InvalidInputError(
            f"{folder} holds an encoding with another {' and '.join(differing)}; continue that, give another folder, "
            "or start again with --overwrite."
        )
    if differing:
        return start_manifest(folder, task)
    done = {}
    for line in lines[1:]:
        try:
            record = parse_record(line)
        except ValueError:
            continue  # A killed process has cut off the line; its shard is encoded again.
        if is_intact(folder, record):
            done[record.shard] = record
    return done


def parse_record(line: str) -> ShardRecord:
    """Parse a line of `manifest.jsonl`.

    Raises:
        ValueError: the line is cut off or damaged.
    """
    try:
        record = ShardRecord(**json.loads(line))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    numbers = (record.shard, record.start, record.stop, record.rows, record.bad)
    if not all(type(number) is int and number >= 0 for number in numbers) or not isinstance(record.digests, dict):
        raise ValueError(f"{record} is not a shard")
    return record


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise an error if a folder is a file, or contains files but no encoding in shards."""
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; give a folder for the shards.")
    if overwrite or not folder.exists() or (folder / PROGRESS).exists():
        return
    if any(file.name != LOCK_FILE for file in folder.iterdir()):
        raise InvalidInputError(f"{folder} holds other files; give a new folder, or --overwrite.")


def start_manifest(folder: Path, task: Mapping[str, Any]) -> dict[int, ShardRecord]:
    """Remove earlier shards, and start a manifest without shards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / PROGRESS).unlink(missing_ok=True)
    for file in folder.iterdir():
        if SHARD_FILE.fullmatch(file.name):
            file.unlink()
    append_line(folder, {"task": dict(task)})
    return {}


def save_progress(folder: Path, record: ShardRecord) -> None:
    """Append a shard that is done."""
    append_line(folder, asdict(record))


def append_line(folder: Path, entry: Mapping[str, Any]) -> None:
    """Append a line to `manifest.jsonl`, and flush it; if the last line was cut off, end that line first."""
    path = folder / PROGRESS
    with writing(path, "shards that are done are kept, and the same command continues"), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(entry) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def is_intact(folder: Path, record: ShardRecord) -> bool:
    """Return whether the files of a shard match its digests."""
    try:
        return not record.rows or digest_shard(folder, record.shard) == record.digests
    except OSError:
        return False


def write_manifest(folder: Path, description: Mapping[str, Any], records: Mapping[int, ShardRecord]) -> None:
    """Write `manifest.json`, with the shards in the order of their rows."""
    shards = [asdict(records[shard]) for shard in sorted(records)]
    write_json(folder / MANIFEST, {"format": FORMAT, **description, "shards": shards})
