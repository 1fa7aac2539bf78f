"""Encode a source to a file of codes, in blocks; an interrupted call continues where it stopped."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deephash.code_files.code_file import CodePaths, describe_codes
from deephash.code_files.code_writer import (
    COMPLETE,
    PROGRESS,
    CodeWriter,
    Progress,
    build_occupied_error,
    clear_unfinished,
    complete,
    is_own_folder,
    put_in_place,
    unfinished_folder,
    write_unfinished_bad_rows,
)
from deephash.code_files.rows import RowBlock, RowSource
from deephash.codes import code_bytes
from deephash.hashers.hasher import Hasher
from deephash.io.files import read_json, reading, write_json, writing
from deephash.io.ownership import check_no_folder, check_not_source
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_count

# 4096 rows of 512 float32 features are 8 MB; about three blocks are in memory. They fit in the processor's cache, and
# their memory is reused: blocks of 32 MB, with new pages each time, took twice the time to encode.
BLOCK_ROWS = 4096
# Maximal work that a killed process loses, apart from the current block.
SECONDS_BETWEEN_SAVES = 1.0


@dataclass(frozen=True)
class Encoded:
    """Result of an encoding.

    Args:
        rows: number of codes.
        bad: number of rows that cannot be encoded.
        first_bad: description of the first bad row, if bad rows prevent codes from being put in place.
        is_done: whether the codes are in place; false if there are bad rows and `skip_bad` is false.
        was_there: whether an earlier call had put the codes in place.
    """

    rows: int
    bad: int
    first_bad: str
    is_done: bool
    was_there: bool = False


def encode_file(
    hasher: Hasher,
    source: RowSource,
    out: str | Path,
    *,
    identity: str | None = None,
    view: str = "",
    skip_bad: bool = False,
    rows: int = BLOCK_ROWS,
    overwrite: bool = False,
) -> Encoded:
    """Encode all rows of a source.

    Until all rows are encoded, the codes grow in the folder `OUT.encoding`. If the call is interrupted, the same call
    continues from there. It writes the same bytes as an uninterrupted call, because blocks begin at the same rows.

    Args:
        hasher: fitted hasher, on the device to encode on.
        source: rows of features.
        out: `.npy` for codes, with ids in `.ids.npy` beside them, or `.parquet` with the columns id and code.
        identity: identity of the hasher to record; None uses that of `hasher`.
        view: view of this hasher, if the whole hasher has two.
        skip_bad: whether to skip rows that cannot be encoded; if false, they prevent codes from being put in place.
        rows: rows to read and encode at a time.
        overwrite: whether to replace other codes.

    Returns:
        Numbers of rows that were and were not encoded. Bad rows are listed in `.bad.json` beside the codes.

    Raises:
        InvalidInputError: a damaged source, features of the wrong dimension, other codes at the output, an unfinished
            encoding with other arguments, or no row that can be encoded.
    """
    check_count(rows, "rows")
    paths = CodePaths(Path(out).expanduser())
    rows = min(rows, source.most_rows or rows)
    device = hasher.projection.is_fitted.device
    identity = hasher.identity if identity is None else identity
    if source.dimension is not None:
        check_dimension(source.dimension, hasher)
    task: dict[str, Any] = {
        "hasher": identity,
        "view": view,
        "rows": rows,
        "device": device.type,
        "source": source.fingerprint(),
    }
    check_no_folder(*paths.all)
    check_not_source(task["source"].get("path", ""), *paths.all, paths.unfinished)
    result = find_existing_result(paths, task, skip_bad, overwrite)
    if result is not None and not is_own_folder(paths.unfinished):
        return result
    with unfinished_folder(paths):
        if (result := find_existing_result(paths, task, skip_bad, overwrite)) is not None:
            clear_unfinished(paths)  # Files of a process that was killed after the last step.
            return result
        return encode_unfinished(hasher, source, paths, task, skip_bad, overwrite)


def encode_unfinished(
    hasher: Hasher, source: RowSource, paths: CodePaths, task: dict[str, Any], skip_bad: bool, overwrite: bool
) -> Encoded:
    """Encode the remaining rows, and put the codes in place."""
    progress = read_progress(paths, task, overwrite)
    if not (paths.unfinished / COMPLETE).exists():
        writer = CodeWriter(paths, code_bytes(hasher.bits), source.named, progress)
        try:
            if source.rows is None or progress.row < source.rows:
                encode_rest(hasher, source, writer, task)
        finally:
            writer.close()
        first_bad = describe_first_bad(paths) if progress.bad else ""
        if progress.bad and not skip_bad:
            write_unfinished_bad_rows(paths)
            return Encoded(progress.kept, progress.bad, first_bad, is_done=False)
        if progress.kept == 0:
            raise InvalidInputError(f"0 of {progress.bad} rows can be encoded; the first: {first_bad or 'none'}.")
        description = describe_codes(
            paths,
            progress.kept,
            progress.bad,
            task["hasher"],
            hasher.distance,
            hasher.bits,
            task["view"],
            task["source"],
        )
        complete(paths, progress, writer.width, source.named, description)
    put_in_place(paths, overwrite)
    return Encoded(progress.kept, progress.bad, "", is_done=True)


def encode_rest(hasher: Hasher, source: RowSource, writer: CodeWriter, task: dict[str, Any]) -> None:
    """Encode the remaining rows, and save the progress from time to time and at the end."""
    paths, saved_at = writer.paths, time.monotonic()
    for codes, block in encode_blocks(hasher, source, writer.progress.row, task["rows"]):
        writer.append(codes, block.ids, block.bad, block.stop)
        if time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
            writer.flush()
            save_progress(paths, task, writer.progress)
            saved_at = time.monotonic()
    writer.flush()
    save_progress(paths, task, writer.progress)


def encode_blocks(hasher: Hasher, source: RowSource, start: int, rows: int) -> Iterator[tuple[np.ndarray, RowBlock]]:
    """Yield the codes uint8 (m, ⌈b/8⌉) of each block of a source from row `start` on, with the block.

    Raises:
        InvalidInputError: a damaged source, or features of the wrong dimension.
    """
    device = hasher.projection.is_fitted.device
    remaining = None if source.rows is None else -(-(source.rows - start) // rows)
    for block in track(read_ahead(source.blocks(start, rows)), "Encoding", remaining):
        if len(block.features):
            check_dimension(block.features.shape[1], hasher)
            yield hasher.encode(block.features.to(device), rows).cpu().numpy(), block
        else:
            yield np.empty((0, code_bytes(hasher.bits)), np.uint8), block


def save_progress(paths: CodePaths, task: dict[str, Any], progress: Progress) -> None:
    """Write the progress of the codes that are flushed."""
    write_json(paths.unfinished / PROGRESS, {"task": task, "progress": asdict(progress)})


def read_ahead(blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    """Yield the same blocks, and read the next one while one is in use."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = reader.submit(next, blocks, None)
            yield block


def read_progress(paths: CodePaths, task: dict[str, Any], overwrite: bool) -> Progress:
    """Return the progress of an earlier call with the same task; zero if there was none.

    Raises:
        InvalidInputError: an unfinished encoding with other arguments, or other files at the final paths.
    """
    path = paths.unfinished / PROGRESS
    progress = Progress()
    if path.exists():
        with reading(path, "the progress of an encoding", f"remove {paths.unfinished} to encode from the first row"):
            stored = json.loads(path.read_text(encoding="utf-8"))
            differing = [name for name in task if stored["task"][name] != task[name]]
            progress = Progress(**stored["progress"])
            if not all(type(number) is int and number >= 0 for number in asdict(progress).values()):
                raise ValueError(f"its progress is {progress}")
        if differing and not overwrite:
            raise InvalidInputError(
                f"{paths.unfinished} holds an unfinished encoding with another {' and '.join(differing)}; continue "
                "that, or start again with --overwrite."
            )
        if differing:
            progress = Progress()
    # The list of bad rows may belong to an earlier call.
    occupied = [path for path in paths.all if os.path.lexists(path) and not (path == paths.bad and progress.bad)]
    if occupied and not overwrite and not (paths.unfinished / COMPLETE).exists():
        raise build_occupied_error(occupied[0])
    if progress == Progress():
        with writing(paths.unfinished):
            clear_unfinished(paths)
    return progress


def find_existing_result(paths: CodePaths, task: dict[str, Any], skip_bad: bool, overwrite: bool) -> Encoded | None:
    """Return the result of an earlier, complete call with the same task; None if there was none."""
    if overwrite or (paths.unfinished / PROGRESS).exists():
        return None
    occupied = [path for path in paths.all if os.path.lexists(path)]
    if not occupied:
        return None
    if not paths.description.exists():
        raise build_occupied_error(occupied[0])
    stored = read_json(paths.description, "the description of codes")
    same = isinstance(stored, dict) and stored.get("file") == paths.codes.name and paths.codes.exists()
    same = same and all(type(stored.get(name)) is int for name in ("rows", "skipped"))
    same = same and all(stored.get(name) == task[name] for name in ("hasher", "view", "source"))
    if not same or (stored["skipped"] and not skip_bad):
        raise build_occupied_error(occupied[0])
    return Encoded(stored["rows"], stored["skipped"], "", is_done=True, was_there=True)


def describe_first_bad(paths: CodePaths) -> str:
    """Describe the first bad row."""
    path = paths.unfinished / "bad.jsonl"
    with reading(path, "a list of bad rows"), path.open(encoding="utf-8") as lines:
        first = json.loads(next(lines))
        return f"{first['id']} ({first['reason']})"


def check_dimension(dimension: int, hasher: Hasher) -> None:
    """Raise an error unless features have the input dimension of the hasher."""
    if dimension != hasher.input_dim:
        raise InvalidInputError(
            f"the features have {dimension} dimensions; the hasher expects {hasher.input_dim}: give features from the "
            "same model or descriptor."
        )
