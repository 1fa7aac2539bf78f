"""A database of codes in several files; any range of its rows is read without the other rows."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deephash.code_files.code_file import ENDINGS, CodePaths, read_description
from deephash.code_files.index_codes import read_hasher_info
from deephash.codes import code_bytes
from deephash.data.array_file import read_array, reading_array
from deephash.data.trial import PARQUET, try_decoding
from deephash.io.files import read_json
from deephash.io.folder_walk import walk_files
from deephash.io.item_names import as_names
from deephash.io.npy_file import map_npy
from deephash.ranking.distance import Distance
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel, SharedLabels, select_items
from deephash.validation import InvalidInputError, as_labels

if TYPE_CHECKING:
    import polars

# Rows to rank at a time: 32 MB of 64-bit codes and 32 MB of int64 labels.
BLOCK_ROWS = 1 << 22


@dataclass(frozen=True)
class ShardBlock:
    """Consecutive rows of one shard.

    Args:
        codes: packed uint8 (m, ⌈b/8⌉), mapped into memory if the file is an `.npy`.
        labels: int64 (m,), bool (m, c), or None.
        start: row of the first code in the whole database.
    """

    codes: Tensor
    labels: Tensor | None
    start: int


@dataclass(frozen=True)
class CodeShards:
    """Files of codes that are one database, with the rows in the order of the files.

    Args:
        paths: `.npy` or `.parquet` files of `deephash encode`; labels are in `.labels.npy` beside them, if there are
            any.
        rows: number of rows of each file.
        bits: code length b.
        hasher: identity of the hasher that made the codes.
        distance: distance that ranks the codes.
    """

    paths: tuple[Path, ...]
    rows: tuple[int, ...]
    bits: int
    hasher: str
    distance: Distance

    def __len__(self) -> int:
        return sum(self.rows)

    def pieces(self, rows: range) -> Iterator[tuple[int, range]]:
        """Yield the number of each file with rows in a range, and the range of these rows within the file."""
        first = 0
        for number, count in enumerate(self.rows):
            piece = range(max(rows.start - first, 0), min(rows.stop - first, count))
            if piece:
                yield number, piece
            first += count

    def blocks(self, rows: range) -> Iterator[ShardBlock]:
        """Yield the rows of a range in blocks, each from one file.

        Raises:
            InvalidInputError: a file that does not match its description.
        """
        for number, piece in self.pieces(rows):
            path, count, first = self.paths[number], self.rows[number], sum(self.rows[:number])
            read = open_codes(path, count, self.bits)
            labels = map_labels(path, count)
            for start in range(piece.start, piece.stop, BLOCK_ROWS):
                some = range(start, min(start + BLOCK_ROWS, piece.stop))
                yield ShardBlock(read(some), None if labels is None else labels[some.start : some.stop], first + start)

    def read_ids(self, rows: range) -> np.ndarray:
        """Read only the ids of a range of rows; numbers become strings if other ids are strings."""
        return np.concatenate([read_ids(self.paths[number], piece) for number, piece in self.pieces(rows)])


@dataclass(frozen=True)
class ShardQueries:
    """Queries of an evaluation, with either labels or neighbours.

    Args:
        codes: packed uint8 (q, ⌈b/8⌉).
        labels: int64 (q,), bool (q, c), or None.
        neighbours: rows of the whole database that are relevant to each query, or None.
    """

    codes: Tensor
    labels: Tensor | None
    neighbours: Neighbours | None

    def relevance(self, block: ShardBlock) -> Relevance:
        """Return the relevance of a block's rows to each query.

        Raises:
            InvalidInputError: a block without labels, or with labels that differ in kind from the queries' labels.
        """
        if self.neighbours is not None:
            return select_items(self.neighbours, block.start, block.start + len(block.codes))
        if self.labels is None or block.labels is None:
            raise InvalidInputError(
                f"no labels for the {'queries' if self.labels is None else f'shard with row {block.start}'}; put them "
                "beside the codes as NAME.labels.npy, int64 (n,) or bool (n, c)."
            )
        kind = SharedLabel if self.labels.ndim == 1 else SharedLabels
        return kind(self.labels, block.labels)


def open_shards(paths: Sequence[Path]) -> CodeShards:
    """Open files of codes as one database.

    Args:
        paths: `.npy` or `.parquet` files, or folders; all files of codes in a folder are used, sorted by name.

    Raises:
        InvalidInputError: no files, a file given twice, a damaged file, or codes of different hashers.
    """
    files = [file for path in paths for file in (list_code_files(path) if path.is_dir() else [path])]
    if not files:
        given = " ".join(map(str, paths)) or "nothing"
        raise InvalidInputError(f"{given} holds no codes; give files of deephash encode, .npy or .parquet.")
    seen: dict[Path, Path] = {}
    for file in files:
        if (first := seen.setdefault(file.resolve(), file)) is not file:
            raise InvalidInputError(f"{file} and {first} are one file, and its items would count twice; give it once.")
    descriptions = [read_description(file) for file in files]
    hasher = read_hasher_info(descriptions[0])
    for file, description in zip(files, descriptions, strict=True):
        if (description["hasher"], description["bits"]) != (hasher.identity, hasher.bits):
            raise InvalidInputError(
                f"{file} holds codes of the hasher {description['hasher']}, and {files[0]} those of "
                f"{hasher.identity}; all shards need the same hasher."
            )
    rows = tuple(description["rows"] for description in descriptions)
    return CodeShards(tuple(files), rows, hasher.bits, hasher.identity, hasher.distance)


def list_code_files(folder: Path) -> list[Path]:
    """List the files of codes in a folder, sorted by name: those with a description beside them.

    If two files share a description, such as `a.npy` and `a.parquet`, it belongs to the file that it names.
    """
    files = walk_files(folder, stop=lambda *_: True)  # Only this folder, without its subfolders.
    files = [file for file in files if file.suffix in ENDINGS and CodePaths(file).description.exists()]
    stems = Counter(CodePaths(file).description for file in files)
    return [file for file in files if stems[CodePaths(file).description] == 1 or is_described(file)]


def is_described(path: Path) -> bool:
    """Return whether the description beside a file of codes names it."""
    description = read_json(CodePaths(path).description, f"the description of {path.name}")
    return isinstance(description, dict) and description.get("file") == path.name


def open_queries(path: Path, shards: CodeShards) -> ShardQueries:
    """Open queries of the same hasher as the shards, with their labels or relevant neighbours.

    Raises:
        InvalidInputError: codes of another hasher, or neither labels nor neighbours beside them.
    """
    queries = open_shards([path])
    if (queries.hasher, queries.bits) != (shards.hasher, shards.bits):
        raise InvalidInputError(
            f"{path} holds codes of the hasher {queries.hasher}, and the shards those of {shards.hasher}; encode both "
            "with the same hasher."
        )
    codes = open_codes(path, len(queries), queries.bits)(range(len(queries)))
    labels = map_labels(path, len(queries))
    listed = CodePaths(path).neighbours
    neighbours = None
    if listed.exists():
        offsets, ids = (torch.from_numpy(np.array(read_array(listed, name))) for name in ("offsets", "ids"))
        neighbours = Neighbours(offsets, ids, len(shards))
    elif labels is None:
        raise InvalidInputError(
            f"{path} has neither {CodePaths(path).labels.name} nor {listed.name} beside it; write one of them."
        )
    return ShardQueries(codes, labels, neighbours)


def map_array(path: Path) -> Tensor:
    """Map an array into memory, copy-on-write."""
    with reading_array(path):
        return torch.from_numpy(np.asarray(map_npy(path, "c")))


def open_codes(path: Path, rows: int, bits: int) -> Callable[[range], Tensor]:
    """Return a function that reads a range of rows: from an `.npy` mapped into memory, or from Parquet."""
    if path.suffix == ".npy":
        codes = map_array(path)
        check_packed(codes, path, rows, bits)
        return lambda wanted: codes[wanted.start : wanted.stop]
    state = path.stat()
    try_codes(path, (state.st_size, state.st_mtime_ns))

    def read(wanted: range) -> Tensor:
        with reading_array(path):
            values = read_parquet_rows(path, "code", wanted).to_numpy()
        some = torch.from_numpy(np.array(values))
        check_packed(some, path, len(wanted), bits)
        return some

    with reading_array(path):
        held = count_parquet_rows(path)
    if held != rows:
        raise InvalidInputError(f"{path} holds {held} codes; its description says {rows}: encode again.")
    return read


@lru_cache(1 << 16)
def try_codes(path: Path, state: tuple[int, int]) -> None:
    """Test in a separate process, once per state of a file, that Parquet codes do not crash the decoder."""
    try_decoding(PARQUET, path, "code")


def check_packed(codes: Tensor, path: Path, rows: int, bits: int) -> None:
    """Raise an error unless codes are uint8 (rows, ⌈bits/8⌉)."""
    if codes.dtype != torch.uint8 or codes.shape != (rows, code_bytes(bits)):
        raise InvalidInputError(
            f"{path} holds {codes.dtype} {tuple(codes.shape)}; its description says uint8 {(rows, code_bytes(bits))}: "
            "encode again."
        )


def read_ids(path: Path, wanted: range) -> np.ndarray:
    """Read only the ids of a range of rows of one file: whole numbers or strings."""
    if path.suffix == ".npy":
        beside = CodePaths(path).ids
        return as_names(np.array(read_array(beside)[wanted.start : wanted.stop]), f"ids of {beside}")
    with reading_array(path):
        column = read_parquet_rows(path, "id", wanted)
        if missing := column.null_count():
            raise InvalidInputError(f"column 'id' of {path} has {missing} missing values; encode again.")
        ids = np.array(column.to_list() if str(column.dtype) == "String" else column.to_numpy())
    return as_names(ids, f"ids of {path}")


def read_parquet_rows(path: Path, column: str, wanted: range) -> "polars.Series":
    """Read some rows of a column of a Parquet file."""
    import polars

    return polars.scan_parquet(path, glob=False).select(column).slice(wanted.start, len(wanted)).collect()[column]


def count_parquet_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file."""
    import polars

    return int(polars.scan_parquet(path, glob=False).select(polars.len()).collect().item())


def map_labels(path: Path, rows: int) -> Tensor | None:
    """Map the labels beside a file of codes into memory; None if there are none."""
    beside = CodePaths(path).labels
    if not beside.exists():
        return None
    return as_labels(map_array(beside), rows, f"labels in {beside}")
