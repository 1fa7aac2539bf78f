"""Write codes and ids block by block into a folder, and move them into place once they are complete."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deephash.code_files.code_file import CodePaths
from deephash.code_files.rows import BadRow, Ids
from deephash.io.files import read_json, read_json_object, write_json, write_whole, writing
from deephash.io.npy_file import map_npy
from deephash.io.ownership import LOCK_FILE, lock_for_writing
from deephash.validation import InvalidInputError

# Space for NumPy's header, which is written once the number of rows is known.
HEADER_BYTES = 128
# Files of an unfinished encoding: its progress and, once all rows are encoded, the description of the codes.
PROGRESS, COMPLETE = "progress.json", "complete.json"
# The first file to be created and the last to be removed; it marks the folder as an encoding.
MARK = "encoding.json"
OWN_FILE = re.compile(
    r"((codes|ids)\.npy|codes\.parquet|(ids|bad)\.jsonl|(encoding|progress|complete)\.json|part-\d{6}\.parquet)"
    r"(\.[0-9a-f]{8}\.partial)?"
)
BEGINNING = re.compile(rf"{re.escape(LOCK_FILE)}|{re.escape(MARK)}\.[0-9a-f]{{8}}\.partial")
KEPT = "encoded rows are kept, and the same command continues"
# Rows of a Parquet file to hold in memory and compress at a time.
PARQUET_ROWS = 1 << 18


@dataclass
class Progress:
    """Progress of an encoding: rows, and sizes of the files of variable length.

    Args:
        row: next row of the source.
        kept: number of codes.
        bad: number of rows that cannot be encoded.
        id_bytes: size of the file of ids in bytes, if they are strings.
        bad_bytes: size of the list of bad rows in bytes.
    """

    row: int = 0
    kept: int = 0
    bad: int = 0
    id_bytes: int = 0
    bad_bytes: int = 0


class CodeWriter:
    """Appends codes, ids and bad rows to files in the folder of an unfinished encoding.

    Args:
        paths: final paths of the files.
        width: bytes of a code.
        named: whether ids are strings.
        progress: progress to continue from; the files are cut off there.
    """

    def __init__(self, paths: CodePaths, width: int, named: bool, progress: Progress) -> None:
        self.paths = paths
        self.width = width
        self.named = named
        self.progress = progress
        folder = paths.unfinished
        id_bytes = progress.id_bytes if named else HEADER_BYTES + 8 * progress.kept
        with writing(folder, KEPT):
            self._codes = open_at(folder / "codes.npy", HEADER_BYTES + width * progress.kept)
            self._ids = open_at(folder / ("ids.jsonl" if named else "ids.npy"), id_bytes)
            self._bad = open_at(folder / "bad.jsonl", progress.bad_bytes)

    def append(self, codes: np.ndarray, ids: Ids, bad: list[BadRow], stop: int) -> None:
        """Add a block.

        Args:
            codes: uint8 (m, ⌈b/8⌉).
            ids: ids of these m rows.
            bad: rows of the block without a code.
            stop: row after the last of the block.

        Raises:
            StorageError: the disk is full or not writable.
        """
        with writing(self.paths.unfinished, KEPT):
            self._codes.write(codes.tobytes())
            if isinstance(ids, np.ndarray):
                self._ids.write(ids.astype("<i8").tobytes())
            else:
                self.progress.id_bytes += self._ids.write("".join(json.dumps(name) + "\n" for name in ids).encode())
            self.progress.bad_bytes += self._bad.write("".join(json.dumps(asdict(row)) + "\n" for row in bad).encode())
        self.progress.kept += len(codes)
        self.progress.bad += len(bad)
        self.progress.row = stop

    def flush(self) -> None:
        """Flush all blocks to the disk.

        Raises:
            StorageError: the disk is full or not writable.
        """
        with writing(self.paths.unfinished, KEPT):
            for file in (self._codes, self._ids, self._bad):
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files; flushed blocks stay."""
        for file in (self._codes, self._ids, self._bad):
            with suppress(OSError):  # Rows that did not fit on a full disk are not in the saved progress.
                file.close()


def open_at(path: Path, size: int) -> BinaryIO:
    """Open a file for appending, and truncate or extend it to a size."""
    path.touch()
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


def complete(paths: CodePaths, progress: Progress, width: int, named: bool, description: dict[str, Any]) -> None:
    """Complete the files, and write `complete.json`, which marks them as ready to be moved.

    Args:
        paths: final paths of the files.
        progress: progress of an encoding of at least one row, all of it on disk.
        width: bytes of a code.
        named: whether ids are strings.
        description: description of the codes.

    Raises:
        StorageError: the disk is full or not writable.
    """
    folder = paths.unfinished
    codes, ids = folder / "codes.npy", folder / "ids.npy"
    with writing(folder, KEPT):
        write_header(codes, (progress.kept, width), np.dtype("u1"))
        if named:
            write_whole(ids, lambda partial: write_words(folder / "ids.jsonl", partial, progress.kept))
        else:
            write_header(ids, (progress.kept,), np.dtype("<i8"))
        if paths.codes.suffix == ".parquet":
            write_whole(folder / "codes.parquet", lambda partial: write_parquet(codes, ids, partial))
        write_json(folder / COMPLETE, description)


def put_in_place(paths: CodePaths, overwrite: bool) -> None:
    """Move complete files into place; an interrupted call can be repeated.

    Codes without a description count as unfinished. So an old description is removed first, and the new one written
    last.

    Args:
        paths: final paths of the files.
        overwrite: whether to replace other files.

    Raises:
        InvalidInputError: other files exist at the final paths.
        StorageError: the disk is full or not writable.
    """
    folder = paths.unfinished
    description = read_json_object(folder / COMPLETE, "the description of codes")
    moves = [(folder / "ids.npy", paths.ids), (folder / "codes.npy", paths.codes)]
    if paths.codes.suffix == ".parquet":
        moves = [(folder / "codes.parquet", paths.codes)]
    if not overwrite:
        taken = [place for file, place in moves if file.exists() and os.path.lexists(place)]
        if paths.description.exists() and read_json(paths.description, "the description of codes") != description:
            taken.append(paths.description)
        if taken:
            raise build_occupied_error(taken[0])
    with writing(paths.codes, KEPT):
        paths.description.unlink(missing_ok=True)
        if description.get("skipped"):
            write_unfinished_bad_rows(paths)
        elif overwrite:
            paths.bad.unlink(missing_ok=True)
        for file, place in moves:
            if file.exists():
                file.replace(place)
        write_json(paths.description, description)
        clear_unfinished(paths)


def build_occupied_error(path: Path) -> InvalidInputError:
    """Return the error for a path at which another file exists."""
    return InvalidInputError(
        f"{path} exists already and is not a file of these codes; choose another name, or --overwrite."
    )


@contextmanager
def unfinished_folder(paths: CodePaths) -> Iterator[None]:
    """Lock the folder of an encoding for this process; remove the folder at the end if nothing is left in it."""
    folder = paths.unfinished
    if os.path.lexists(folder) and not is_own_folder(folder):
        raise InvalidInputError(
            f"{folder} is not an unfinished encoding, but encoding needs a folder of that name; move it, or "
            "choose another name for the codes."
        )
    with lock_for_writing(folder, str(paths.codes)):
        if not (folder / MARK).exists():
            write_json(folder / MARK, {"format": "deephash encoding", "file": paths.codes.name})
        try:
            yield
        finally:
            if {file.name for file in folder.iterdir()} == {MARK, LOCK_FILE}:
                (folder / MARK).unlink()


def is_own_folder(folder: Path) -> bool:
    """Return whether a folder belongs to an unfinished encoding, or contains only the first files of one."""
    if not folder.is_dir():
        return False
    if any((folder / name).exists() for name in (PROGRESS, MARK)):
        return True
    return all(BEGINNING.fullmatch(file.name) for file in folder.iterdir())


def clear_unfinished(paths: CodePaths) -> None:
    """Remove the files of an encoding that is in place or replaced; other files in its folder stay.

    The progress is removed first, so that no call continues from it. The mark of the folder stays.
    """
    for file in sorted(paths.unfinished.iterdir(), key=lambda file: file.name != PROGRESS):
        if OWN_FILE.fullmatch(file.name) and file.name != MARK:
            file.unlink()


def write_unfinished_bad_rows(paths: CodePaths) -> None:
    """Write the report of the bad rows of an unfinished encoding."""
    with (paths.unfinished / "bad.jsonl").open(encoding="utf-8") as lines:
        write_bad_rows(paths.bad, lines)


def write_bad_rows(path: Path, lines: Iterable[str]) -> None:
    """Write the report of bad rows, given as JSON objects, as a JSON list."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8") as report:
            for place, line in enumerate(lines):
                report.write(("[\n" if place == 0 else ",\n") + line.rstrip("\n"))
            report.write("\n]\n")

    write_whole(path, write)


def write_header(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write NumPy's header into the space at the beginning of a file, and flush it."""
    with path.open("r+b") as file:
        kind = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
        assert file.tell() == HEADER_BYTES
        file.flush()
        os.fsync(file.fileno())


def write_words(lines: Path, path: Path, rows: int) -> None:
    """Write strings, given as one JSON string per line, as a NumPy array."""
    with lines.open(encoding="utf-8") as file:
        longest = max(len(json.loads(line)) for line in file)
    with path.open("wb") as file:
        kind = np.dtype(f"<U{max(longest, 1)}")
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_1_0(file, header)
        with lines.open(encoding="utf-8") as words:
            for line in words:
                file.write(np.array(json.loads(line), kind).tobytes())


def write_parquet(codes: Path, ids: Path, path: Path) -> None:
    """Write codes and ids as a Parquet file with the columns id and code.

    Parts are written to Parquet files and joined, so that not all rows are in memory at once.
    """
    import polars

    all_codes, all_ids = (map_npy(file) for file in (codes, ids))
    parts: list[Path] = []
    try:
        for first in range(0, len(all_codes), PARQUET_ROWS):
            rows = slice(first, first + PARQUET_ROWS)
            kind = polars.Array(polars.UInt8, all_codes.shape[1])
            part_ids = np.array(all_ids[rows])
            values = part_ids.tolist() if part_ids.dtype.kind == "U" else part_ids
            frame = polars.DataFrame({"id": values, "code": polars.Series(np.array(all_codes[rows]), dtype=kind)})
            parts.append(codes.with_name(f"part-{len(parts):06d}.parquet"))
            frame.write_parquet(parts[-1])
        joined = polars.scan_parquet(parts, glob=False)
        joined.sink_parquet(path, row_group_size=PARQUET_ROWS, maintain_order=True)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
