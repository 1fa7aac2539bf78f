"""Neighbours by label, the truth of most published figures."""

from typing import TYPE_CHECKING, ClassVar, Self

from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.ranking.relevance import Relevance, SharedLabel, SharedLabels
from deephash.validation import InvalidInputError, as_labels

if TYPE_CHECKING:
    from deephash.data.items import Part


class Label(Affinity):
    """Neighbours = items of the same class or, for multi-label data, with at least one shared label.

    A query whose class is not in the database has no neighbour; metrics skip such queries and report their number.
    """

    needs_labels: ClassVar[bool] = True

    def check_parts(self, queries: "Part", database: "Part") -> None:
        """Raise an error for parts without labels."""
        self.relevance(queries.features, queries.labels, database.features, database.labels)

    def fit(self, features: Tensor, labels: Tensor | None) -> Self:
        """Check the labels; nothing is fitted.

        Raises:
            InvalidInputError: missing or invalid labels.
        """
        as_labels(_require_labels(labels, "training"), len(features), "training labels")
        return self

    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Relevance:
        """Return the labels of both sides, which the ranking compares; features are ignored.

        Raises:
            InvalidInputError: missing labels, single labels on one side and multi-labels on the other, or wrong
                lengths.
        """
        query = _require_labels(query_labels, "query")
        database = _require_labels(database_labels, "database")
        query = as_labels(query, len(query_features), "query labels")
        database = as_labels(database, len(database_features), "database labels")
        return SharedLabel(query, database) if query.ndim == 1 else SharedLabels(query, database)


def _require_labels(labels: Tensor | None, name: str) -> Tensor:
    if labels is None:
        raise InvalidInputError(
            f"truth=label needs labels, and the {name} items have none; use data with labels, or truth by distance: "
            "truth=nearest_neighbours or truth=epsilon_ball."
        )
    return labels
