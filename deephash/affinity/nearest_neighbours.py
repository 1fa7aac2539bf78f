"""The exact nearest neighbours, the truth of similarity search."""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.affinity.euclidean import as_array, check_distances, find_nearest
from deephash.ranking.relevance import Neighbours
from deephash.validation import InvalidInputError, as_features, check_count

if TYPE_CHECKING:
    from deephash.data.items import Part


class NearestNeighbours(Affinity):
    """Neighbours = the k nearest items of the database by Euclidean distance, ties by lower row.

    The truth of published figures on SIFT1M (Jégou, Douze & Schmid, TPAMI 2011), with k = 100, 1,000 or 10,000. Every
    query has exactly k neighbours. Distances are compared in float64; see `euclidean`.

    Between training items, an item is its own nearest neighbour.

    Args:
        k: neighbours per query; 100, as published for SIFT1M.

    Raises:
        InvalidInputError: k is not an integer of at least 1.
    """

    def __init__(self, k: int = 100) -> None:
        check_count(k, "truth.k")
        self.k = k

    def fit(self, features: Tensor, labels: Tensor | None) -> Self:
        """Do nothing; nothing is learnt from training items."""
        return self

    def check_parts(self, queries: "Part", database: "Part") -> None:
        """Raise an error for features of two views or a database of fewer than k items."""
        for part, name in ((queries, "query features"), (database, "database features")):
            as_features(part.features[:1], name=name)
        self._check_size(len(database))

    def _check_size(self, items: int) -> None:
        if self.k > items:
            raise InvalidInputError(f"truth.k={self.k} exceeds the {items} items of the database; lower truth.k.")

    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Neighbours:
        """Return the k nearest database items of each query.

        The CPU computes them; the result is on the device of the queries.

        Raises:
            InvalidInputError: invalid features, or a database of fewer than k items.
        """
        query_features = as_features(query_features, name="query features")
        database_features = as_features(database_features, query_features.shape[1], 1, "database features")
        check_distances(query_features, "query features")
        check_distances(database_features, "database features")
        self._check_size(len(database_features))
        ids, _ = find_nearest(as_array(query_features), as_array(database_features), self.k)
        device = query_features.device
        offsets = torch.arange(len(ids) + 1, device=device) * self.k
        return Neighbours(offsets, torch.from_numpy(ids).flatten().to(device), len(database_features))
