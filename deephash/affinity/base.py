"""The base class of affinities: definitions of which items are neighbours."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from deephash.affinity.supervision import AmongItems, TrainingAffinity
from deephash.conversion import PlainArguments
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel

if TYPE_CHECKING:
    from deephash.data.items import Part


class Affinity(PlainArguments, ABC):
    """A definition of neighbours from labels or features.

    One definition serves as ground truth, between queries and database, and as supervision, within training items.
    `fit` learns parameters, such as the radius of an ε-ball, from the training items, unless the affinity names another
    part.
    """

    learns_from: str = "train"
    """Part of a split on whose items `fit` learns if this is the truth."""

    needs_labels: ClassVar[bool] = False
    """Whether items without labels have no neighbours."""

    def check_parts(self, queries: "Part", database: "Part") -> None:
        """Raise an error, before fitting and at almost no cost, for parts for which `relevance` raises one.

        Raises:
            InvalidInputError: the error that `relevance` would raise.
        """

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor | None) -> "Affinity":
        """Learn what the definition needs from the training items: features (n, d), labels (n,) or (n, c) or None."""

    @abstractmethod
    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Relevance:
        """Return which database items are neighbours of which query.

        Args:
            query_features: (q, d).
            query_labels: int64 (q,), bool (q, c) or None.
            database_features: (N, d).
            database_labels: like the queries' labels.
        """

    def supervise(self, features: Tensor, labels: Tensor | None, positions: Tensor | None = None) -> TrainingAffinity:
        """Return the neighbours among training items, for methods fitted from pairs.

        Args:
            features: (n, d) of the training items.
            labels: int64 (n,), bool (n, c) or None.
            positions: int64 (n,), the items' rows in the whole data set, for definitions that name items by those.
        """
        return AmongItems(self, features, labels)

    def block(self, features_a: Tensor, labels_a: Tensor | None, features_b: Tensor, labels_b: Tensor | None) -> Tensor:
        """Return the affinity between two sets of items: rows of A against all training items B.

        An item that is in both is its own neighbour, unless it has no label to share. The number of rows
        per call is limited by memory.

        Args:
            features_a: (a, d).
            labels_a: int64 (a,), bool (a, c) or None.
            features_b: (b, d).
            labels_b: like A's labels.

        Returns:
            bool (a, b), True where item j of B is a neighbour of item i of A.
        """
        return to_dense(self.relevance(features_a, labels_a, features_b, labels_b))


def to_dense(relevance: Relevance) -> Tensor:
    """Convert a relevance to a matrix, for blocks that fit into memory.

    Returns:
        bool (q, N), True where database item j is relevant to query i.
    """
    if isinstance(relevance, Neighbours):
        q = len(relevance.offsets) - 1
        matrix = torch.zeros(q, relevance.database_size, dtype=torch.bool, device=relevance.ids.device)
        rows = torch.repeat_interleave(torch.arange(q, device=matrix.device), relevance.offsets.diff())
        matrix[rows, relevance.ids] = True
        return matrix
    if isinstance(relevance, SharedLabel):
        return relevance.query[:, None] == relevance.database
    return relevance.query.float() @ relevance.database.float().T > 0
