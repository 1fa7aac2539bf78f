"""Encoding a source into a file of codes: in blocks, resumed where it was broken off."""

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
    clear_unfinished,
    complete,
    is_own_folder,
    occupied_by_other,
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

# 4096 rows of 512 float32 features are 8 MB, of which about three blocks are held. A processor's cache holds them, and
# their memory is used again: blocks of 32 MB, of fresh pages each time, took twice the time to encode.
BLOCK_ROWS = 4096
# What a kill at any moment costs at most, beside the block in work.
SECONDS_BETWEEN_NOTES = 1.0


@dataclass(frozen=True)
class Encoded:
    """What came of an encoding.

    Args:
        rows: number of codes.
        bad: rows that cannot be encoded.
        first_bad: the first of them in words, where they keep the codes from being put in place.
        is_done: whether the codes are in place; not where there are bad rows that were not to be skipped.
        was_there: whether they were before.
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

    Until all are encoded, the codes grow in the folder `OUT.encoding`, and the same call goes on from what is there. It
    then gives the same bytes as one that was never broken off, because blocks begin at the same rows.

    Args:
        hasher: fitted, on the device that is to encode.
        source: of features.
        out: `.npy` for codes, with ids in `.ids.npy` beside them, or `.parquet` with the columns id and code.
        identity: of the hasher that the codes are said to be of; None takes this one's own.
        view: which view of a hasher of two this is.
        skip_bad: whether rows that cannot be encoded are left out; else nothing is put in place where there are some.
        rows: rows that are read and encoded at a time.
        overwrite: whether other codes there are replaced.

    Returns:
        Numbers of rows encoded and not. Bad rows are listed in `.bad.json` beside the codes in either case.

    Raises:
        InvalidInputError: a damaged source, features of another dimension, other codes in place, an encoding of
            something else begun there, or no row that can be encoded.
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
    there = finished(paths, task, skip_bad, overwrite)
    if there is not None and not is_own_folder(paths.unfinished):
        return there
    with unfinished_folder(paths):
        if (there := finished(paths, task, skip_bad, overwrite)) is not None:
            clear_unfinished(paths)  # What a kill after the last step left.
            return there
        return encode_unfinished(hasher, source, paths, task, skip_bad, overwrite)


def encode_unfinished(
    hasher: Hasher, source: RowSource, paths: CodePaths, task: dict[str, Any], skip_bad: bool, overwrite: bool
) -> Encoded:
    """Encode what is not encoded yet, and put the codes in place."""
    progress = begun(paths, task, overwrite)
    if not (paths.unfinished / COMPLETE).exists():
        writer = CodeWriter(paths, code_bytes(hasher.bits), source.named, progress)
        try:
            if source.rows is None or progress.row < source.rows:
                encode_rest(hasher, source, writer, task)
        finally:
            writer.close()
        first_bad = described_bad(paths) if progress.bad else ""
        if progress.bad and not skip_bad:
            write_unfinished_bad_rows(paths)
            return Encoded(progress.kept, progress.bad, first_bad, is_done=False)
        if progress.kept == 0:
            raise InvalidInputError(f"0 of {progress.bad} rows can be encoded; the first: {first_bad or 'none'}.")
        described = describe_codes(
            paths,
            progress.kept,
            progress.bad,
            task["hasher"],
            hasher.distance,
            hasher.bits,
            task["view"],
            task["source"],
        )
        complete(paths, progress, writer.width, source.named, described)
    put_in_place(paths, overwrite)
    return Encoded(progress.kept, progress.bad, "", is_done=True)


def encode_rest(hasher: Hasher, source: RowSource, writer: CodeWriter, task: dict[str, Any]) -> None:
    """Encode from the progress on, noting it now and then and at the end."""
    paths, noted = writer.paths, time.monotonic()
    for codes, block in encoded_blocks(hasher, source, writer.progress.row, task["rows"]):
        writer.append(codes, block.ids, block.bad, block.stop)
        if time.monotonic() - noted > SECONDS_BETWEEN_NOTES:
            writer.flush()
            note(paths, task, writer.progress)
            noted = time.monotonic()
    writer.flush()
    note(paths, task, writer.progress)


def encoded_blocks(hasher: Hasher, source: RowSource, start: int, rows: int) -> Iterator[tuple[np.ndarray, RowBlock]]:
    """Codes uint8 (m, ⌈b/8⌉) of each block of a source from a row on, and the block.

    Raises:
        InvalidInputError: a damaged source, or features of another dimension.
    """
    device = hasher.projection.is_fitted.device
    remaining = None if source.rows is None else -(-(source.rows - start) // rows)
    for block in track(read_ahead(source.blocks(start, rows)), "Encoding", remaining):
        if len(block.features):
            check_dimension(block.features.shape[1], hasher)
            yield hasher.encode(block.features.to(device), rows).cpu().numpy(), block
        else:
            yield np.empty((0, code_bytes(hasher.bits)), np.uint8), block


def note(paths: CodePaths, task: dict[str, Any], progress: Progress) -> None:
    """Write how far the codes that are on the disk go."""
    write_json(paths.unfinished / PROGRESS, {"task": task, "progress": asdict(progress)})


def read_ahead(blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    """The same blocks, the next one being read while one is in use."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block


def begun(paths: CodePaths, task: dict[str, Any], overwrite: bool) -> Progress:
    """How far an earlier call came with the same task; nowhere where there was none.

    Raises:
        InvalidInputError: an encoding of something else was begun there, or other files lie where the codes go.
    """
    noted = paths.unfinished / PROGRESS
    progress = Progress()
    if noted.exists():
        with reading(noted, "the progress of an encoding", f"remove {paths.unfinished} to encode from the first row"):
            stored = json.loads(noted.read_text(encoding="utf-8"))
            differing = [name for name in task if stored["task"][name] != task[name]]
            progress = Progress(**stored["progress"])
            if not all(type(number) is int and number >= 0 for number in asdict(progress).values()):
                raise ValueError(f"it came as far as {progress}")
        if differing and not overwrite:
            raise InvalidInputError(
                f"{paths.unfinished} holds an encoding begun with another {' and '.join(differing)}; go on with that, "
                "or begin again with --overwrite."
            )
        if differing:
            progress = Progress()
    # The list of bad rows may be an earlier call's own.
    occupied = [path for path in paths.all if os.path.lexists(path) and not (path == paths.bad and progress.bad)]
    if occupied and not overwrite and not (paths.unfinished / COMPLETE).exists():
        raise occupied_by_other(occupied[0])
    if progress == Progress():
        with writing(paths.unfinished):
            clear_unfinished(paths)
    return progress


def finished(paths: CodePaths, task: dict[str, Any], skip_bad: bool, overwrite: bool) -> Encoded | None:
    """The result of an earlier call with the same task that came to its end; None where there was none.

    Raises:
        InvalidInputError: other codes, or files that are of no codes, lie there.
    """
    if overwrite or (paths.unfinished / PROGRESS).exists():
        return None
    occupied = [path for path in paths.all if os.path.lexists(path)]
    if not occupied:
        return None
    if not paths.description.exists():
        raise occupied_by_other(occupied[0])
    there = read_json(paths.description, "the description of codes")
    same = isinstance(there, dict) and there.get("file") == paths.codes.name and paths.codes.exists()
    same = same and all(type(there.get(name)) is int for name in ("rows", "skipped"))
    same = same and all(there.get(name) == task[name] for name in ("hasher", "view", "source"))
    if not same or (there["skipped"] and not skip_bad):
        raise occupied_by_other(occupied[0])
    return Encoded(there["rows"], there["skipped"], "", is_done=True, was_there=True)


def described_bad(paths: CodePaths) -> str:
    """The first bad row in words."""
    path = paths.unfinished / "bad.jsonl"
    with reading(path, "a list of bad rows"), path.open(encoding="utf-8") as lines:
        first = json.loads(next(lines))
        return f"{first['id']} ({first['reason']})"


def check_dimension(dimension: int, hasher: Hasher) -> None:
    """Raise an error for features that the hasher does not take.

    Raises:
        InvalidInputError: naming both dimensions.
    """
    if dimension != hasher.input_dim:
        raise InvalidInputError(
            f"the features have {dimension} dimensions; the hasher takes {hasher.input_dim}: give features of its kind."
        )
