"""Neighbours by judgements of relevance, the truth of collections for text retrieval."""

from typing import TYPE_CHECKING, Self, final

from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.ranking.relevance import Neighbours, Relevance
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from deephash.data.items import Items, Part
    from deephash.data.judged_pairs import JudgedPairs


@final
class Judgements(Affinity):
    """Neighbours = the items that the data set's judgements name as relevant to a query, with their grades.

    Judgements say nothing about two items of the database. Methods that learn from neighbours among training items need
    another definition, such as `supervision=epsilon_ball`.
    """

    def __init__(self) -> None:
        self._judged: JudgedPairs | None = None

    def read_items(self, items: "Items") -> None:
        """Keep the judgements of the data set.

        Raises:
            InvalidInputError: it has none.
        """
        if items.judgements is None:
            raise InvalidInputError(
                "truth=judgements needs judgements of relevance, and these data have none; choose data with them, such "
                "as data=beir, or another truth, such as truth=label."
            )
        self._judged = items.judgements

    def fit(self, features: Tensor, labels: Tensor | None) -> Self:
        """Do nothing; the judgements are given."""
        return self

    def relevance_of_parts(self, queries: "Part", database: "Part") -> Neighbours:
        """Return the judged neighbours of each query."""
        assert self._judged is not None
        return self._judged.between(queries.ids.cpu(), database.ids.cpu())

    def check_parts(self, queries: "Part", database: "Part") -> None:
        """Raise an error if no item of the database is relevant to any query.

        Raises:
            InvalidInputError: the protocol has drawn queries without judgements.
        """
        relevance = self.relevance_of_parts(queries, database)
        if not int(relevance.offsets[-1]):
            raise InvalidInputError(
                f"none of the {len(queries)} queries has a relevant item among the {len(database)} items of the "
                "database; choose protocol=official, whose queries are those with judgements."
            )

    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Relevance:
        """Raise an error: features do not tell which items are judged.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError(
            "judgements relate queries to items, not training items to each other; choose a method that needs no "
            "neighbours among them, such as method=itq, or name them by supervision=epsilon_ball or supervision=pairs."
        )
