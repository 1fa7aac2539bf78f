"""The interface of a source of items, which yields blocks of rows from any row on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.validation import InvalidInputError

Ids = np.ndarray | list[str]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be encoded.

    Args:
        row: its number in the source, from 0.
        id: its id in the source.
        reason: the reason.
    """

    row: int
    id: int | str
    reason: str


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a source, without those that cannot be encoded.

    Args:
        features: float32 (m, d), finite.
        ids: ids of these m rows, int64 (m,) or m strings.
        bad: rows that cannot be encoded.
        stop: row after the last of the block.
    """

    features: Tensor
    ids: Ids
    bad: list[BadRow]
    stop: int


class RowSource(ABC):
    """Items as rows of features, read block by block."""

    rows: int | None
    """Number of rows; None if it is unknown until all are read."""

    most_rows: int | None = None
    """Maximal number of rows of a block; None for no bound."""

    named: bool = False
    """Whether ids are strings, not numbers."""

    @property
    @abstractmethod
    def dimension(self) -> int | None:
        """Feature dimension d; None if it is unknown until the first block is read."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return JSON values that change with the source, without reading it completely."""

    @abstractmethod
    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Yield blocks of `rows` rows from row `start` on, a multiple of `rows`; the last block may have fewer.

        Raises:
            InvalidInputError: a damaged source.
        """


def build_block(values: np.ndarray, ids: Ids, places: np.ndarray, stop: int) -> RowBlock:
    """Build a block; rows with NaN, infinity or values too large for float32 become bad rows.

    Args:
        values: numbers (m, d); the block shares their memory if they are float32 and writable.
        ids: ids of the m rows.
        places: numbers of the m rows in the source, int64 (m,).
        stop: row after the last of the block.
    """
    with np.errstate(over="ignore"):  # Values too large for float32 become infinite; their rows are bad.
        features = torch.from_numpy(np.require(values, np.float32, ["C", "W"]))
    if torch.isfinite(features.sum()):
        # If the sum is finite, so are all values: one pass suffices.
        return RowBlock(features, ids, [], stop)
    finite = torch.isfinite(features).all(1)
    bad = [
        BadRow(int(places[row]), convert_id(ids[row]), describe_bad_value(features[row]))
        for row in torch.nonzero(~finite).flatten().tolist()
    ]
    return RowBlock(features[finite], select_ids(ids, finite.numpy()), bad, stop)


def describe_bad_value(features: Tensor) -> str:
    """Describe the first value of a row that is not finite."""
    place = int(torch.nonzero(~torch.isfinite(features))[0])
    value = "NaN or missing" if torch.isnan(features[place]) else "infinite or beyond float32"
    return f"value {place} is {value}"


def select_ids(ids: Ids, kept: np.ndarray) -> Ids:
    """Return the ids for which `kept` is true."""
    if isinstance(ids, np.ndarray):
        selected: np.ndarray = ids[kept]
        return selected
    return [name for name, keep in zip(ids, kept, strict=True) if keep]


def convert_id(identifier: Any) -> int | str:
    """Convert an id to a JSON value."""
    return identifier if isinstance(identifier, str) else int(identifier)


def check_matrix(shape: Sequence[int], dtype: np.dtype, name: str) -> None:
    """Raise an error unless an array is a matrix of numbers with at least one row."""
    if dtype.kind not in "iufb":
        raise InvalidInputError(f"{name} has dtype {dtype}; expected numbers.")
    if len(shape) != 2 or shape[1] == 0:
        raise InvalidInputError(f"{name} has shape {tuple(shape)}; expected two axes, (n, d) with d at least 1.")
    if shape[0] == 0:
        raise InvalidInputError(f"{name} has no rows; expected at least one item.")
