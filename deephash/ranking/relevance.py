"""Relevance of database items to queries, in forms that a kernel reads without a q × N matrix."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deephash.conversion import as_tensor, to_plain_number
from deephash.validation import InvalidInputError, as_labels, as_numbers


@dataclass(frozen=True)
class SharedLabel:
    """Relevance of items of the same class.

    Args:
        query: class indices int64 (q,).
        database: class indices int64 (N,).
    """

    query: Tensor
    database: Tensor

    def __post_init__(self) -> None:
        _convert_labels(self, 1, "are a multi-label indicator; use SharedLabels for those.")


@dataclass(frozen=True)
class SharedLabels:
    """Relevance of items with at least one label in common.

    Args:
        query: indicator bool (q, c).
        database: indicator bool (N, c).
    """

    query: Tensor
    database: Tensor

    def __post_init__(self) -> None:
        _convert_labels(self, 2, "are class indices; use SharedLabel for those.")
        if self.query.shape[1] != self.database.shape[1]:
            raise InvalidInputError(
                f"query labels have {self.query.shape[1]} classes and database labels {self.database.shape[1]}; "
                "expected the same classes."
            )


@dataclass(frozen=True)
class Neighbours:
    """Relevance of listed items, such as exact nearest neighbours or members of an ε-ball.

    Args:
        offsets: int64 (q + 1,); the neighbours of query i are ids[offsets[i] : offsets[i + 1]].
        ids: int64, database rows, ascending and unique within a query.
        database_size: N, the number of database rows.
        grades: int64, the grade of each neighbour, from 1 to `highest_grade`; None if all are equally relevant.
        highest_grade: the highest grade of the whole ground truth, of which these queries may be a part.
    """

    offsets: Tensor
    ids: Tensor
    database_size: int
    grades: Tensor | None = None
    highest_grade: int = 1

    def __post_init__(self) -> None:
        for name in ("offsets", "ids", *(() if self.grades is None else ("grades",))):
            object.__setattr__(self, name, as_tensor(as_numbers(getattr(self, name), f"neighbour {name}")))
        for name in ("database_size", "highest_grade"):
            object.__setattr__(self, name, to_plain_number(getattr(self, name)))
        if self.offsets.dtype != torch.int64 or self.ids.dtype != torch.int64 or len(self.offsets) < 1:
            raise InvalidInputError("neighbour offsets and ids must be int64, with q + 1 offsets.")
        if int(self.offsets[0]) != 0 or int(self.offsets[-1]) != len(self.ids) or bool((self.offsets.diff() < 0).any()):
            raise InvalidInputError(f"neighbour offsets must rise from 0 to the number of ids, {len(self.ids)}.")
        if len(self.ids) and not (int(self.ids.min()) >= 0 and int(self.ids.max()) < self.database_size):
            raise InvalidInputError(
                f"neighbour ids are from {int(self.ids.min())} to {int(self.ids.max())}; "
                f"expected rows of a database of {self.database_size}."
            )
        if self.grades is not None:
            if self.grades.dtype != torch.int64 or self.grades.shape != self.ids.shape:
                raise InvalidInputError(
                    f"neighbour grades are {self.grades.dtype} {tuple(self.grades.shape)}; expected int64 "
                    f"{tuple(self.ids.shape)}, one for each id."
                )
            if len(self.grades) and not 1 <= int(self.grades.min()) <= int(self.grades.max()) <= self.highest_grade:
                raise InvalidInputError(
                    f"neighbour grades are from {int(self.grades.min())} to {int(self.grades.max())}; expected 1 to "
                    f"highest_grade={self.highest_grade}."
                )

    def at_least(self, grade: int) -> "Neighbours":
        """Return the neighbours of at least a grade, without grades."""
        if self.grades is None:
            return self if grade <= 1 else self._keep(torch.zeros_like(self.ids, dtype=torch.bool))
        return self._keep(self.grades >= grade)

    def _keep(self, kept: Tensor) -> "Neighbours":
        """Return the neighbours that a mask bool, of the shape of the ids, keeps, without grades."""
        return Neighbours(count_before(kept)[self.offsets], self.ids[kept], self.database_size)


Relevance = SharedLabel | SharedLabels | Neighbours


def _convert_labels(relevance: SharedLabel | SharedLabels, axes: int, mistake: str) -> None:
    """Convert the labels of both sides in place; raise an error with `mistake` for another number of axes."""
    for side in ("query", "database"):
        labels = as_labels(getattr(relevance, side), len(getattr(relevance, side)), f"{side} labels")
        object.__setattr__(relevance, side, labels)
        if labels.ndim != axes:
            raise InvalidInputError(f"{side} labels {mistake}")


def count_queries(relevance: Relevance) -> int:
    """Return the number of queries q of a relevance."""
    return len(relevance.offsets) - 1 if isinstance(relevance, Neighbours) else len(relevance.query)


def count_items(relevance: Relevance) -> int:
    """Return the number of database items N of a relevance."""
    return relevance.database_size if isinstance(relevance, Neighbours) else len(relevance.database)


def neighbour_queries(relevance: Neighbours) -> Tensor:
    """Return the query of each neighbour id: int64, of the same length as the ids."""
    return torch.repeat_interleave(relevance.offsets.diff(), output_size=len(relevance.ids))


def count_before(kept: Tensor) -> Tensor:
    """Return the number of kept entries before each entry of a mask bool (m,), and in total: int64 (m + 1,)."""
    return torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])


def select_queries(relevance: Relevance, start: int, stop: int) -> Relevance:
    """Return the relevance of only the queries start to stop."""
    if isinstance(relevance, Neighbours):
        offsets = relevance.offsets[start : stop + 1]
        listed = slice(int(offsets[0]), int(offsets[-1]))
        grades = None if relevance.grades is None else relevance.grades[listed]
        return replace(relevance, offsets=offsets - offsets[0], ids=relevance.ids[listed], grades=grades)
    return type(relevance)(relevance.query[start:stop], relevance.database)


def select_items(relevance: Relevance, start: int, stop: int) -> Relevance:
    """Return the relevance of only the database items start to stop, numbered from 0."""
    if isinstance(relevance, Neighbours):
        kept = (relevance.ids >= start) & (relevance.ids < stop)
        return replace(
            relevance,
            offsets=count_before(kept)[relevance.offsets],
            ids=relevance.ids[kept] - start,
            database_size=stop - start,
            grades=None if relevance.grades is None else relevance.grades[kept],
        )
    return type(relevance)(relevance.query, relevance.database[start:stop])


def move_relevance(relevance: Relevance, device: torch.device) -> Relevance:
    """Return the same relevance with its tensors on a device, which must be that of the ranked codes."""
    if isinstance(relevance, Neighbours):
        grades = None if relevance.grades is None else relevance.grades.to(device)
        return replace(relevance, offsets=relevance.offsets.to(device), ids=relevance.ids.to(device), grades=grades)
    return type(relevance)(relevance.query.to(device), relevance.database.to(device))


def is_relevant(relevance: Relevance, ids: Tensor) -> Tensor:
    """Return whether database items are relevant to the query of their row.

    Args:
        relevance: relevance for q queries.
        ids: int64 (q, k), rows of the database.

    Returns:
        bool (q, k).
    """
    if isinstance(relevance, SharedLabel):
        return relevance.query[:, None] == relevance.database[ids]
    if isinstance(relevance, SharedLabels):
        return (relevance.query[:, None] & relevance.database[ids]).any(-1)
    listed = [relevance.ids[start:stop] for start, stop in relevance.offsets.unfold(0, 2, 1).tolist()]
    rows = [torch.isin(row, neighbours) for row, neighbours in zip(ids, listed, strict=True)]
    return torch.stack(rows) if rows else torch.zeros_like(ids, dtype=torch.bool)
