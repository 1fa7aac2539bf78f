"""A ground truth fitted on a data set."""

from typing import Any

from deephash.affinity.base import Affinity
from deephash.data.base import HashingDataModule
from deephash.data.items import Part
from deephash.ranking.relevance import Relevance


class FittedTruth:
    """The ground truth of a data set: a definition of relevance, fitted once, when it is first needed.

    Args:
        definition: definition of relevance, unfitted.
        data: data module that has been set up. `definition.learns_from` names the part to fit on.

    Examples:
        truth = FittedTruth(EpsilonBall(neighbours=50), data)
        relevance = truth.relevance(data.part("query"), data.part("database"))
    """

    def __init__(self, definition: Affinity, data: HashingDataModule) -> None:
        self.data = data
        self._definition = definition
        self._is_fitted = False
        self._known: dict[tuple[str, str], Relevance] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "FittedTruth":
        return self  # Copies of a module, such as those of weight averaging, share the data and the truth.

    @property
    def definition(self) -> Affinity:
        """The fitted definition."""
        if not self._is_fitted:
            self._definition.read_items(self.data.items)
            part = self.data.part(self._definition.learns_from)
            self._definition.fit(part.features, part.labels)
            self._is_fitted = True
        return self._definition

    def check_parts(self, queries: Part, database: Part) -> None:
        """Raise an error if relevance between two parts cannot be computed, without fitting.

        Raises:
            InvalidInputError: the error that `relevance` would raise.
        """
        self._definition.read_items(self.data.items)
        self._definition.check_parts(queries, database)

    def relevance(self, queries: Part, database: Part) -> Relevance:
        """Return the relevance between two parts, on their device."""
        return self.definition.relevance_of_parts(queries, database)

    def relevance_of_roles(self, query_role: str, database_role: str) -> Relevance:
        """Return the relevance between the whole parts of two roles, computed once."""
        roles = (query_role, database_role)
        if roles not in self._known:
            self._known[roles] = self.relevance(self.data.part(query_role), self.data.part(database_role))
        return self._known[roles]
