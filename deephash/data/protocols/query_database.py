"""The query/database protocols of the literature, which differ in the choice and the use of the training part."""

import numpy as np
from torch import Tensor

from deephash.data.protocols.base import Protocol, Split
from deephash.data.protocols.draws import Size, check_size, deal, find_strata
from deephash.validation import InvalidInputError

WHOLE_DATABASE = "database"
# Role of a split → parameter that sizes it.
VALIDATION_ROLES = {"validation_query": "validation_queries", "validation_database": "validation_database"}


class QueryDatabase(Protocol):
    """Random queries against the other items; training on the database or on a labelled sample.

    With the same seed, the queries do not depend on the other sizes. If the database is the rest of the items,
    the training sample does not depend on `search_train` either. The effect of searching the sample can then be
    measured in isolation.

    An optional validation part avoids choices on the test queries. Its items are removed from the database and the
    training part, so a comparison with published figures needs a run without it.

    Args:
        queries: test queries.
        database: items against which the queries are ranked, including a searched training sample; by default all
            others.
        train: size of the training sample, or "database" to train on all searched items, usually without labels.
        search_train: whether the training sample is searched too.
        validation_queries: queries for choosing hyper-parameters; 0 for none.
        validation_database: items against which the validation queries are ranked; 0 for none.
        stratified: whether each part has the class proportions of the data, if items have one class each.

    Raises:
        InvalidInputError: an invalid size, or contradictory settings.
    """

    def __init__(
        self,
        queries: Size = 1000,
        database: Size = "rest",
        train: Size = WHOLE_DATABASE,
        search_train: bool = True,
        validation_queries: Size = 0,
        validation_database: Size = 0,
        stratified: bool = True,
    ) -> None:
        check_size(queries, "queries")
        check_size(database, "database")
        check_size(train, "train", (WHOLE_DATABASE,))
        if train == WHOLE_DATABASE and not search_train:
            raise InvalidInputError(
                "protocol.train=database trains on all searched items, but protocol.search_train=false; set "
                "protocol.search_train=true, or give the training sample a size, such as protocol.train=5000."
            )
        if train == "rest" and search_train:
            raise InvalidInputError(
                "protocol.train=rest leaves no other items to search; set protocol.train=database, or "
                "protocol.search_train=false with a size for the database, such as protocol.database=54000."
            )
        self.validation = select_validation_sizes(validation_queries, validation_database)
        self.queries = queries
        self.database = database
        self.train = train
        self.search_train = search_train
        self.stratified = stratified

    def split(self, n: int, labels: Tensor | None, official: np.ndarray | None, seed: int) -> Split:
        """Draw a split from all n items; the publisher's parts are ignored."""
        strata = find_strata(n, labels, self.stratified)
        sizes: dict[str, Size] = {"queries": self.queries, **self.validation}
        if not self.search_train:
            sizes["train"] = self.train
        rows = deal(sizes | {"database": self.database}, strata, seed)
        if self.train == WHOLE_DATABASE:
            rows["train"] = rows["database"]
        elif self.search_train:
            rows |= deal({"train": self.train}, strata, seed, rows["database"], "the database")
        return Split(
            train=rows["train"],
            query=rows["queries"],
            database=rows["database"],
            **{role: rows[part] for role, part in VALIDATION_ROLES.items() if part in rows},
        )


def select_validation_sizes(validation_queries: Size, validation_database: Size) -> dict[str, Size]:
    """Return the sizes of an optional validation part by parameter name; empty if both are 0.

    Raises:
        InvalidInputError: an invalid size, or only one size above 0.
    """
    sizes = {"validation_queries": validation_queries, "validation_database": validation_database}
    selected = {part: size for part, size in sizes.items() if isinstance(size, bool) or size != 0}
    for part, size in selected.items():
        check_size(size, part)
    if len(selected) == 1:
        (present,) = selected
        (absent,) = sizes.keys() - selected.keys()
        raise InvalidInputError(
            f"protocol.{present}={sizes[present]} but protocol.{absent}=0; a validation part needs both, such as "
            f"protocol.{absent}=1000."
        )
    return selected
