"""The contract of a source of items: blocks of rows, from any row on."""

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
        row: its place in the source, from 0.
        id: as the source calls it.
        reason: why not.
    """

    row: int
    id: int | str
    reason: str


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a source, those that cannot be encoded set apart.

    Args:
        features: float32 (m, d), finite.
        ids: of these m rows, int64 (m,) or m words.
        bad: the others.
        stop: the row after the block's last.
    """

    features: Tensor
    ids: Ids
    bad: list[BadRow]
    stop: int


class RowSource(ABC):
    """Items as features, one block of rows after another."""

    rows: int | None
    """How many there are; None where only reading all of them would tell."""

    most_rows: int | None = None
    """The most that a block may have; None sets no bound."""

    named: bool = False
    """Whether ids are words, not numbers."""

    @property
    @abstractmethod
    def dimension(self) -> int | None:
        """Feature dimension d; None where the first block tells."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What tells this source from another and from itself once changed, in JSON values, without reading all."""

    @abstractmethod
    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Blocks of `rows` rows, the last one of fewer, from the row `start` on, which is a multiple of `rows`.

        Raises:
            InvalidInputError: a damaged source.
        """


def checked_block(values: np.ndarray, ids: Ids, places: np.ndarray, stop: int) -> RowBlock:
    """A block of rows, those with NaN, infinity or more than float32 holds set apart.

    Args:
        values: numbers (m, d); the block keeps them where they are float32 and may be written to.
        ids: of the m rows.
        places: of the m rows in the source, int64 (m,).
        stop: the row after the block's last.
    """
    with np.errstate(over="ignore"):  # Beyond float32 is infinite, which is set apart below.
        features = torch.from_numpy(np.require(values, np.float32, ["C", "W"]))
    if torch.isfinite(features.sum()):
        # A finite sum clears the whole block in one pass.
        return RowBlock(features, ids, [], stop)
    finite = torch.isfinite(features).all(1)
    bad = [
        BadRow(int(places[row]), plain_id(ids[row]), reason_of(features[row]))
        for row in torch.nonzero(~finite).flatten().tolist()
    ]
    return RowBlock(features[finite], select_ids(ids, finite.numpy()), bad, stop)


def reason_of(features: Tensor) -> str:
    """Why a row's features cannot be encoded, by the first value that is not finite."""
    place = int(torch.nonzero(~torch.isfinite(features))[0])
    value = "NaN or missing" if torch.isnan(features[place]) else "infinite or beyond float32"
    return f"value {place} is {value}"


def select_ids(ids: Ids, kept: np.ndarray) -> Ids:
    """The ids where `kept` is true."""
    if isinstance(ids, np.ndarray):
        rows: np.ndarray = ids[kept]
        return rows
    return [name for name, keep in zip(ids, kept, strict=True) if keep]


def plain_id(identifier: Any) -> int | str:
    """An id as JSON holds it."""
    return identifier if isinstance(identifier, str) else int(identifier)


def check_matrix(shape: Sequence[int], dtype: np.dtype, name: str) -> None:
    """Raise an error for an array that is no matrix of numbers with at least one row.

    Raises:
        InvalidInputError: naming what it is.
    """
    if dtype.kind not in "iufb":
        raise InvalidInputError(f"{name} has dtype {dtype}; expected numbers.")
    if len(shape) != 2 or shape[1] == 0:
        raise InvalidInputError(f"{name} has shape {tuple(shape)}; expected two axes, (n, d) with d at least 1.")
    if shape[0] == 0:
        raise InvalidInputError(f"{name} has no rows; expected at least one item.")
