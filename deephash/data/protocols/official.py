"""The publisher's parts of a data set."""

import numpy as np
from torch import Tensor

from deephash.data.protocols.base import Protocol, Split
from deephash.data.protocols.draws import Size, check_size, deal, find_strata
from deephash.data.protocols.query_database import VALIDATION_ROLES, select_validation_sizes
from deephash.validation import InvalidInputError

PARTS = ("train", "query", "database")
BOTH = "both"
"""Part of a training item that is in the database too."""
OTHERS = ("training_query", "validation_query")
"""Parts of items in no role of a split: queries with judgements that training or a choice of settings uses."""


class Official(Protocol):
    """The publisher's queries, training part and database; without a database, the training part is searched.

    On CIFAR-10, the 10,000 test images are queries and the 50,000 training images are the database; mAP above .9 in
    papers on deep hashing is from this setting. On SIFT1M, the parts are the query, learn and base files. Each part can
    be reduced to a sample.

    An optional validation part, taken from the training part, avoids choices on the test queries. If its items are also
    in the database, they are removed from both.

    Args:
        queries: size of the sample of the publisher's queries; by default all.
        train: size of the sample of the publisher's training items; by default all.
        database: size of the sample of the publisher's database; by default all.
        validation_queries: queries for choosing hyper-parameters; 0 for none.
        validation_database: items against which the validation queries are ranked; 0 for none.
        stratified: whether samples have the class proportions of the data, if items have one class each.

    Raises:
        InvalidInputError: an invalid size.
    """

    def __init__(
        self,
        queries: Size = "rest",
        train: Size = "rest",
        database: Size = "rest",
        validation_queries: Size = 0,
        validation_database: Size = 0,
        stratified: bool = True,
    ) -> None:
        for size, part in ((queries, "queries"), (train, "train"), (database, "database")):
            check_size(size, part)
        self.queries = queries
        self.train = train
        self.database = database
        self.validation = select_validation_sizes(validation_queries, validation_database)
        self.stratified = stratified

    def split(self, n: int, labels: Tensor | None, official: np.ndarray | None, seed: int) -> Split:
        """Return the publisher's parts, or samples of them."""
        pools = find_official_pools(n, official)
        strata = find_strata(n, labels, self.stratified)
        train_name = "the official train part"
        rows = deal({"queries": self.queries}, strata, seed, pools["query"], "the official query part")
        rows |= deal({**self.validation, "train": self.train}, strata, seed, pools["train"], train_name)
        held_out = np.concatenate([np.empty(0, np.int64), *(rows[part] for part in self.validation)])
        if len(pools["database"]):
            pool, source = np.setdiff1d(pools["database"], held_out), "the official database part"
        else:
            pool, source = np.setdiff1d(pools["train"], held_out), train_name
        rows |= deal({"database": self.database}, strata, seed, pool, source)
        return Split(
            train=rows["train"],
            query=rows["queries"],
            database=rows["database"],
            **{role: rows[part] for role, part in VALIDATION_ROLES.items() if part in rows},
        )


def find_official_pools(n: int, official: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the rows of each of the publisher's parts.

    Args:
        n: number of items.
        official: part of each item, (n,) of "train", "query", "database", "both", for training items that are searched
            too, or one of `OTHERS`; or None.

    Returns:
        int64 rows, ascending, by part; only "database" can be empty.

    Raises:
        InvalidInputError: no official parts, a length other than n, an unknown part, or no train or query part.
    """
    if official is None:
        raise InvalidInputError(
            "These data have no official parts; choose a protocol that draws them, such as protocol=literature."
        )
    if np.shape(official) != (n,):
        raise InvalidInputError(f"official parts have shape {np.shape(official)}; expected ({n},), one per item.")
    unknown = sorted(set(np.unique(official).tolist()) - {*PARTS, BOTH, *OTHERS}, key=str)
    if unknown:
        raise InvalidInputError(
            f"official parts include {unknown[0]!r}; expected one of: {', '.join((*PARTS, BOTH, *OTHERS))}."
        )
    given = np.asarray(official)
    pools = {part: np.flatnonzero((given == part) | ((given == BOTH) & (part != "query"))) for part in PARTS}
    for part in ("train", "query"):
        if len(pools[part]) == 0:
            raise InvalidInputError(
                f"These data have no official {part} part; choose a protocol that draws it, such as "
                "protocol=literature."
            )
    return pools
