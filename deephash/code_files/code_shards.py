"""A database of codes in several files, of which any range of rows is read without the others."""

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
from deephash.code_files.index_codes import maker_of
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

# Rows that are ranked at a time: 32 MB of codes of 64 bits, and as much of labels.
BLOCK_ROWS = 1 << 22


@dataclass(frozen=True)
class ShardBlock:
    """Consecutive rows of one shard.

    Args:
        codes: packed uint8 (m, ⌈b/8⌉), of an `.npy` mapped into memory.
        labels: int64 (m,), bool (m, c), or None.
        start: the first row's place in the whole database.
    """

    codes: Tensor
    labels: Tensor | None
    start: int


@dataclass(frozen=True)
class CodeShards:
    """Files of codes that are one database, rows following each other in the order of the files.

    Args:
        paths: `.npy` or `.parquet` files of `deephash encode`, with labels in `.labels.npy` beside them where there are
            any.
        rows: of each file.
        bits: code length b.
        hasher: identity of the hasher that made the codes.
        distance: what they are ranked by.
    """

    paths: tuple[Path, ...]
    rows: tuple[int, ...]
    bits: int
    hasher: str
    distance: Distance

    def __len__(self) -> int:
        return sum(self.rows)

    def blocks(self, rows: range) -> Iterator[ShardBlock]:
        """The rows of a range, in blocks that lie in one file each.

        Raises:
            InvalidInputError: a file that does not hold what its description says.
        """
        first = 0
        for path, count in zip(self.paths, self.rows, strict=True):
            start, stop = max(rows.start, first), min(rows.stop, first + count)
            if start < stop:
                read = code_reader(path, count, self.bits)
                labels = mapped_labels(path, count)
                for low in range(start - first, stop - first, BLOCK_ROWS):
                    high = min(low + BLOCK_ROWS, stop - first)
                    own = None if labels is None else labels[low:high]
                    yield ShardBlock(read(range(low, high)), own, first + low)
            first += count


@dataclass(frozen=True)
class ShardQueries:
    """Queries to rank the shards for.

    Args:
        codes: packed uint8 (q, ⌈b/8⌉).
        labels: int64 (q,), bool (q, c), or None.
        neighbours: rows of the whole database that are relevant to each, or None; one of the two is given.
    """

    codes: Tensor
    labels: Tensor | None
    neighbours: Neighbours | None

    def relevance(self, block: ShardBlock) -> Relevance:
        """Which rows of a block are relevant to each query.

        Raises:
            InvalidInputError: a block without labels where queries have some, or labels of another kind.
        """
        if self.neighbours is not None:
            return select_items(self.neighbours, block.start, block.start + len(block.codes))
        if self.labels is None or block.labels is None:
            raise InvalidInputError(
                f"the {'queries' if self.labels is None else 'shard with row ' + str(block.start)} have no labels; put "
                "them beside the codes as NAME.labels.npy, int64 (n,) or bool (n, c)."
            )
        kind = SharedLabel if self.labels.ndim == 1 else SharedLabels
        return kind(self.labels, block.labels)


def open_shards(paths: Sequence[Path]) -> CodeShards:
    """Files of codes as one database.

    Args:
        paths: `.npy` or `.parquet` files, or folders, of which all files of codes are taken by name.

    Raises:
        InvalidInputError: no files, one named twice, a damaged one, or codes of different hashers.
    """
    files = [file for path in paths for file in (code_files(path) if path.is_dir() else [path])]
    if not files:
        given = " ".join(map(str, paths)) or "nothing"
        raise InvalidInputError(f"{given} holds no codes; give files of deephash encode, .npy or .parquet.")
    seen: dict[Path, Path] = {}
    for file in files:
        if (first := seen.setdefault(file.resolve(), file)) is not file:
            raise InvalidInputError(f"{file} and {first} are one file, whose items would count twice; give it once.")
    described = [read_description(file) for file in files]
    for file, description in zip(files, described, strict=True):
        if description["hasher"] != described[0]["hasher"] or description["bits"] != described[0]["bits"]:
            raise InvalidInputError(
                f"{file} holds codes of the hasher {description['hasher']}, and {files[0]} those of "
                f"{described[0]['hasher']}; shards are of one hasher."
            )
    maker = maker_of(described[0])
    rows = tuple(description["rows"] for description in described)
    return CodeShards(tuple(files), rows, maker.bits, maker.identity, maker.distance)


def code_files(folder: Path) -> list[Path]:
    """The files of codes in a folder, by name: those with a description beside them.

    Of two files that share one, as `a.npy` and `a.parquet`, it is that of the file it names.
    """
    files = walk_files(folder, stop=lambda *_: True)  # of this folder alone
    files = [file for file in files if file.suffix in ENDINGS and CodePaths(file).description.exists()]
    stems = Counter(CodePaths(file).description for file in files)
    return [file for file in files if stems[CodePaths(file).description] == 1 or is_described(file)]


def is_described(path: Path) -> bool:
    """Whether the description beside a file of codes names it."""
    description = read_json(CodePaths(path).description, f"the description of {path.name}")
    return isinstance(description, dict) and description.get("file") == path.name


def open_queries(path: Path, shards: CodeShards) -> ShardQueries:
    """Queries of the same hasher as the shards, with what is relevant to them.

    Raises:
        InvalidInputError: codes of another hasher, or neither labels nor neighbours beside them.
    """
    queries = open_shards([path])
    if (queries.hasher, queries.bits) != (shards.hasher, shards.bits):
        raise InvalidInputError(
            f"{path} holds codes of the hasher {queries.hasher}, and the shards those of {shards.hasher}; encode both "
            "by one."
        )
    codes = code_reader(path, len(queries), queries.bits)(range(len(queries)))
    labels = mapped_labels(path, len(queries))
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


def mapped(path: Path) -> Tensor:
    """An array of a file, mapped into memory; what is changed there never reaches the file.

    Raises:
        InvalidInputError: no such array.
    """
    with reading_array(path):
        return torch.from_numpy(np.asarray(map_npy(path, "c")))


def code_reader(path: Path, rows: int, bits: int) -> Callable[[range], Tensor]:
    """A function from a range of rows of a file to their codes: mapped into memory, or read from Parquet.

    Raises:
        InvalidInputError: no codes, or not as many as its description says.
    """
    if path.suffix == ".npy":
        codes = mapped(path)
        check_packed(codes, path, rows, bits)
        return lambda wanted: codes[wanted.start : wanted.stop]
    state = path.stat()
    try_codes(path, (state.st_size, state.st_mtime_ns))

    def read(wanted: range) -> Tensor:
        with reading_array(path):
            values = parquet_rows(path, "code", wanted).to_numpy()
        some = torch.from_numpy(np.array(values))
        check_packed(some, path, len(wanted), bits)
        return some

    with reading_array(path):
        held = parquet_length(path)
    if held != rows:
        raise InvalidInputError(f"{path} holds {held} codes; its description says {rows}: encode again.")
    return read


@lru_cache(1 << 16)
def try_codes(path: Path, state: tuple[int, int]) -> None:
    """Try Parquet codes in a process of their own, since some damage ends the decoder's; once for each state of a file.

    Raises:
        InvalidInputError: they cannot be decoded.
    """
    try_decoding(PARQUET, path, "code")


def check_packed(codes: Tensor, path: Path, rows: int, bits: int) -> None:
    """Refuse what are not so many packed codes.

    Raises:
        InvalidInputError: naming the file.
    """
    if codes.dtype != torch.uint8 or codes.shape != (rows, code_bytes(bits)):
        raise InvalidInputError(
            f"{path} holds {codes.dtype} {tuple(codes.shape)}; its description says uint8 {(rows, code_bytes(bits))}: "
            "encode again."
        )


def read_ids(path: Path, wanted: range) -> np.ndarray:
    """Ids of a range of rows of a file of codes, whole numbers or words; no row is read beyond it.

    Raises:
        InvalidInputError: a file without ids, or a damaged one.
    """
    if path.suffix == ".npy":
        beside = CodePaths(path).ids
        return as_names(np.array(read_array(beside)[wanted.start : wanted.stop]), f"ids of {beside}")
    with reading_array(path):
        column = parquet_rows(path, "id", wanted)
        if missing := column.null_count():
            raise InvalidInputError(f"column 'id' of {path} has {missing} missing values; encode again.")
        ids = np.array(column.to_list() if str(column.dtype) == "String" else column.to_numpy())
    return as_names(ids, f"ids of {path}")


def parquet_rows(path: Path, column: str, wanted: range) -> "polars.Series":
    """Some rows of a column of a Parquet file."""
    import polars

    return polars.scan_parquet(path, glob=False).select(column).slice(wanted.start, len(wanted)).collect()[column]


def parquet_length(path: Path) -> int:
    """Number of rows of a Parquet file."""
    import polars

    return int(polars.scan_parquet(path, glob=False).select(polars.len()).collect().item())


def mapped_labels(path: Path, rows: int) -> Tensor | None:
    """Labels beside a file of codes, mapped into memory; None where there are none.

    Raises:
        InvalidInputError: no labels, or not one for each row.
    """
    beside = CodePaths(path).labels
    if not beside.exists():
        return None
    return as_labels(mapped(beside), rows, f"labels in {beside}")
