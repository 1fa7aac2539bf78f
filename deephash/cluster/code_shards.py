"""A database of codes in several files, of which any range of rows is read without the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deephash.codes import code_bytes
from deephash.data.array_file import read_array, reading_array
from deephash.encoding.code_file import CodePaths, read_description
from deephash.encoding.index_codes import maker_of
from deephash.folder_walk import walk_files
from deephash.npy_file import map_npy
from deephash.ranking.distance import Distance
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel, SharedLabels, select_items
from deephash.validation import InvalidInputError, as_labels

# Rows that are ranked at a time: 32 MB of codes of 64 bits, and as much of labels.
BLOCK_ROWS = 1 << 22


@dataclass(frozen=True)
class ShardBlock:
    """Consecutive rows of one shard.

    Args:
        codes: packed uint8 (m, ⌈b/8⌉), mapped into memory.
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
        paths: `.npy` files of `deephash encode`, with labels in `.labels.npy` beside them where there are any.
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
                codes = mapped_codes(path, count, self.bits)
                labels = mapped_labels(path, count)
                for low in range(start - first, stop - first, BLOCK_ROWS):
                    high = min(low + BLOCK_ROWS, stop - first)
                    yield ShardBlock(codes[low:high], None if labels is None else labels[low:high], first + low)
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
        paths: `.npy` files, or folders, of which all files of codes are taken by name.

    Raises:
        InvalidInputError: no files, a damaged one, or codes of different hashers.
    """
    files = [file for path in paths for file in (code_files(path) if path.is_dir() else [path])]
    if not files:
        raise InvalidInputError(f"{' '.join(map(str, paths)) or 'nothing'} holds no codes; give files of .npy codes.")
    described = [read_description(file) for file in files]
    for file, description in zip(files, described, strict=True):
        if file.suffix != ".npy":
            raise InvalidInputError(f"{file} cannot be mapped into memory; encode into .npy.")
        if description["hasher"] != described[0]["hasher"] or description["bits"] != described[0]["bits"]:
            raise InvalidInputError(
                f"{file} holds codes of the hasher {description['hasher']}, and {files[0]} those of "
                f"{described[0]['hasher']}; shards are of one hasher."
            )
    maker = maker_of(described[0])
    rows = tuple(description["rows"] for description in described)
    return CodeShards(tuple(files), rows, maker.bits, maker.identity, maker.distance)


def code_files(folder: Path) -> list[Path]:
    """The files of codes in a folder, by name: those with a description beside them."""
    files = walk_files(folder, stop=lambda *_: True)  # of this folder alone
    return [file for file in files if file.suffix == ".npy" and CodePaths(file).description.exists()]


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
    codes, labels = mapped_codes(path, len(queries), queries.bits), mapped_labels(path, len(queries))
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


def mapped_codes(path: Path, rows: int, bits: int) -> Tensor:
    """Codes of a file, mapped into memory.

    Raises:
        InvalidInputError: no codes, or not as many as its description says.
    """
    codes = mapped(path)
    if codes.dtype != torch.uint8 or codes.shape != (rows, code_bytes(bits)):
        raise InvalidInputError(
            f"{path} holds {codes.dtype} {tuple(codes.shape)}; its description says uint8 {(rows, code_bytes(bits))}: "
            "encode again."
        )
    return codes


def mapped_labels(path: Path, rows: int) -> Tensor | None:
    """Labels beside a file of codes, mapped into memory; None where there are none.

    Raises:
        InvalidInputError: no labels, or not one for each row.
    """
    beside = CodePaths(path).labels
    if not beside.exists():
        return None
    return as_labels(mapped(beside), rows, f"labels in {beside}")
