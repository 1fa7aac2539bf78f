"""The contract of an index: packed codes, searched for the nearest or for all within a radius."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deephash.ranking.distance import Hamming
from deephash.ranking.inputs import check_ranked
from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class WithinRadius:
    """What lies within a radius of each of q queries, query after query.

    Args:
        offsets: int64 (q + 1,), where each query's items begin and end.
        distances: int64 (offsets[q],), rising within a query.
        ids: int64, the same, rows of the database; the lower first among equal distances.
    """

    offsets: Tensor
    distances: Tensor
    ids: Tensor


class Index(ABC):
    """A database of codes that is searched again and again.

    An index writes `_search`, and `_within` where its engine can. Ids are rows of the codes that it was built from.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), on the CPU.
        bits: code length b.

    Raises:
        InvalidInputError: no codes, or none of that length.
    """

    exact: ClassVar[bool] = True
    """Whether it finds the true nearest: the same as a scan, item for item."""

    def __init__(self, codes: Tensor, bits: int) -> None:
        self.distance = Hamming(bits)
        check_ranked(codes[:0], codes, self.distance)
        if len(codes) == 0:
            raise InvalidInputError("codes have 0 rows; expected at least one to search.")
        self.size = len(codes)

    def __len__(self) -> int:
        return self.size

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.distance.bits

    @abstractmethod
    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and ids int64 (q, k) of checked queries, q at least 1, k from 1 to N."""

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        raise InvalidInputError(
            f"{type(self).__name__} finds the k nearest alone; for a radius choose kind=mih or flat."
        )

    def search(self, queries: Tensor, k: int = 10) -> tuple[Tensor, Tensor]:
        """The k nearest codes of each query, nearest first; among equals the lower id.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            k: number of neighbours, 1 to N.

        Returns:
            Distances and ids, int64 (q, k).

        Raises:
            InvalidInputError: codes of another length, or a k that the database does not have.
        """
        check_ranked(queries, queries[:0], self.distance)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InvalidInputError(f"k={k!r}; expected a whole number of at least 1.")
        if k > self.size:
            raise InvalidInputError(f"k={k} exceeds the {self.size} items of the database; lower k.")
        if len(queries) == 0:
            empty = torch.empty(0, k, dtype=torch.int64)
            return empty, empty.clone()
        return self._search(queries.cpu().contiguous(), k)

    def within(self, queries: Tensor, radius: int) -> WithinRadius:
        """All codes within a Hamming radius of each query, nearest first; among equals the lower id first.

        Args:
            queries: packed codes uint8 (q, ⌈b/8⌉), q from 0.
            radius: largest distance r, 0 to b.

        Raises:
            InvalidInputError: codes of another length, a radius beyond that, or an index that cannot.
        """
        check_ranked(queries, queries[:0], self.distance)
        if isinstance(radius, bool) or not isinstance(radius, int) or not 0 <= radius <= self.bits:
            raise InvalidInputError(f"radius={radius!r}; expected a whole number from 0 to {self.bits}.")
        return self._within(queries.cpu().contiguous(), radius)


def ordered_within(offsets: Tensor, distances: Tensor, ids: Tensor) -> WithinRadius:
    """Each query's items by distance, then by id, whatever order they come in."""
    queries = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    order = ids.argsort(stable=True)
    order = order[distances[order].argsort(stable=True)]
    order = order[queries[order].argsort(stable=True)]
    return WithinRadius(offsets, distances[order], ids[order])
