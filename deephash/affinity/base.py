"""The base class of affinities: definitions of which items are neighbours."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from deephash.affinity.supervision import AmongItems, TrainingAffinity
from deephash.conversion import PlainArguments
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel

if TYPE_CHECKING:
    from deephash.data.items import Items, Part


class Affinity(PlainArguments, ABC):
    """A definition of neighbours from labels or features.

    A definition serves as ground truth between queries and database, and as supervision among training items. `fit`
    learns parameters, such as the radius of an ε-ball, from the training items or the part that `learns_from` names.
    """

    learns_from: str = "train"
    """Part of a split from which `fit` learns when the affinity is the ground truth."""

    needs_labels: ClassVar[bool] = False
    """Whether items without labels have no neighbours."""

    def read_items(self, items: "Items") -> None:
        """Read what the definition needs of the whole data set, such as judgements, before any other call.

        Raises:
            InvalidInputError: the data set lacks it.
        """

    def relevance_of_parts(self, queries: "Part", database: "Part") -> Relevance:
        """Return the neighbours of each query of a part in another part.

        Raises:
            InvalidInputError: as in `relevance`.
        """
        return self.relevance(queries.features, queries.labels, database.features, database.labels)

    def check_parts(self, queries: "Part", database: "Part") -> None:
        """Raise the errors of `relevance` for these parts, before fitting and at almost no cost.

        Raises:
            InvalidInputError: as in `relevance`.
        """

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor | None) -> "Affinity":
        """Learn the definition's parameters from items: features (n, d), labels (n,) or (n, c) or None."""

    @abstractmethod
    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Relevance:
        """Return the neighbours of each query in the database.

        Args:
            query_features: (q, d).
            query_labels: int64 (q,), bool (q, c) or None.
            database_features: (N, d).
            database_labels: int64 (N,), bool (N, c) or None.
        """

    def supervise(self, features: Tensor, labels: Tensor | None, positions: Tensor | None = None) -> TrainingAffinity:
        """Return the neighbours among training items, for methods fitted from pairs.

        Args:
            features: (n, d) of the training items.
            labels: int64 (n,), bool (n, c) or None.
            positions: int64 (n,), rows of the items in the data set, for definitions that list rows, such as `Pairs`.
        """
        return AmongItems(self, features, labels)

    def block(self, features_a: Tensor, labels_a: Tensor | None, features_b: Tensor, labels_b: Tensor | None) -> Tensor:
        """Return the affinity between items A, such as a block of training items, and items B, such as all of them.

        An item that is in both is its own neighbour, unless it has no label. Memory limits the number of rows per call.

        Args:
            features_a: (a, d).
            labels_a: int64 (a,), bool (a, c) or None.
            features_b: (b, d).
            labels_b: int64 (b,), bool (b, c) or None.

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
