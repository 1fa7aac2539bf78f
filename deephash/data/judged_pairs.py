"""Judgements of relevance: which items of a data set are relevant to which of its queries, and how much."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deephash.ranking.relevance import Neighbours
from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs of a query and a relevant item, by rows of the data set. Pairs that are not listed are not relevant.

    Args:
        queries: int64 (j,), row of each pair's query.
        items: int64 (j,), row of each pair's item; a pair may occur once.
        grades: int64 (j,), grade of relevance of each pair, at least 1.

    Raises:
        InvalidInputError: another dtype or shape, a grade below 1, or a pair that occurs twice.
    """

    queries: Tensor
    items: Tensor
    grades: Tensor

    def __post_init__(self) -> None:
        shape = self.queries.shape
        for name in ("queries", "items", "grades"):
            rows = getattr(self, name)
            if rows.dtype != torch.int64 or rows.ndim != 1 or rows.shape != shape:
                raise InvalidInputError(
                    f"judged {name} are {rows.dtype} {tuple(rows.shape)}; expected int64, one for each pair."
                )
        if len(self.grades) and int(self.grades.min()) < 1:
            raise InvalidInputError(f"grades include {int(self.grades.min())}; list relevant pairs, from grade 1.")
        # In the order of queries, then of items, so that the neighbours of each query are ascending.
        order = torch.from_numpy(np.lexsort((self.items.numpy(), self.queries.numpy())))
        for name in ("queries", "items", "grades"):
            object.__setattr__(self, name, getattr(self, name)[order])
        twice = (self.queries.diff() == 0) & (self.items.diff() == 0)
        if bool(twice.any()):
            pair = int(twice.nonzero()[0])
            raise InvalidInputError(
                f"query {int(self.queries[pair])} and item {int(self.items[pair])} are judged twice; keep "
                "one judgement."
            )

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def highest_grade(self) -> int:
        """The highest grade; 1 without pairs."""
        return int(self.grades.max()) if len(self) else 1

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of all pairs and grades."""
        pairs = torch.stack([self.queries, self.items, self.grades]).numpy()
        return hashlib.sha256(np.ascontiguousarray(pairs, "<i8").tobytes()).hexdigest()

    def of_queries(self, queries: Tensor) -> "JudgedPairs":
        """Return the pairs of some queries, int64 (q,)."""
        kept = torch.isin(self.queries, queries)
        return JudgedPairs(self.queries[kept], self.items[kept], self.grades[kept])

    def contain(self, queries: Tensor, items: Tensor) -> Tensor:
        """Return whether each item is relevant to each query.

        Args:
            queries: int64 (q,), rows of the data set.
            items: int64 (m,), rows of the data set.

        Returns:
            bool (q, m), on the device of the queries.
        """
        known = torch.isin(self.queries, queries.cpu())
        size = 1 + max(int(rows.max()) if len(rows) else 0 for rows in (self.items, items.cpu()))
        pairs = self.queries[known] * size + self.items[known]
        return torch.isin(queries.cpu()[:, None] * size + items.cpu(), pairs).to(queries.device)

    def between(self, queries: Tensor, items: Tensor) -> Neighbours:
        """Return the relevance of items to queries, numbered by their positions in these parts.

        Args:
            queries: int64 (q,), distinct rows of the data set.
            items: int64 (N,), distinct rows of the data set.
        """
        query_places, item_places = _find_places(queries, self.queries), _find_places(items, self.items)
        kept = (query_places >= 0) & (item_places >= 0)
        query_places, item_places, grades = query_places[kept], item_places[kept], self.grades[kept]
        order = torch.from_numpy(np.lexsort((item_places.numpy(), query_places.numpy())))
        counts = torch.bincount(query_places, minlength=len(queries))
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Neighbours(offsets, item_places[order], len(items), grades[order], self.highest_grade)


def _find_places(rows: Tensor, sought: Tensor) -> Tensor:
    """Return the position of each sought row, int64 (m,), among distinct rows; -1 if it is not among them."""
    ordered, order = rows.sort()
    places = torch.searchsorted(ordered, sought).clamp_max(max(0, len(rows) - 1))
    if not len(rows):
        return torch.full_like(sought, -1)
    return torch.where(ordered[places] == sought, order[places], -1)
