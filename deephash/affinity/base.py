"""The contract of an affinity: which items are neighbours of which."""

from abc import ABC, abstractmethod

from torch import Tensor

from deephash.ranking.relevance import Relevance


class Affinity(ABC):
    """Neighbourhood between items, from their labels or their features.

    One definition serves as ground truth, between queries and database, and as supervision, within training items.
    What an affinity learns from data (an ε-ball's radius) it learns from training items alone, in `fit`.
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
        """Which database items are neighbours of which query.

        Args:
            query_features: (q, d).
            query_labels: int64 (q,), bool (q, c) or None.
            database_features: (N, d).
            database_labels: as the queries'.
        """
