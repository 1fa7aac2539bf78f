"""Retrieval of classes that were not trained on (Sablayrolles, Douze, Usunier & Jégou, ICASSP 2017)."""

import logging
from typing import ClassVar

import numpy as np
from torch import Tensor

from deephash.data.protocols.base import Protocol, Split
from deephash.data.protocols.draws import REST, Size, check_size, deal, find_strata, random_order
from deephash.data.protocols.official import find_official_pools
from deephash.data.protocols.query_database import VALIDATION_ROLES, select_validation_sizes
from deephash.validation import InvalidInputError, as_labels

log = logging.getLogger(__name__)

DRAWN_QUERIES = 0.2
"""Share of the unseen items that are queries, if the publisher defines no queries."""


class UnseenClasses(Protocol):
    """Training on some classes; queries and database of the other classes.

    With the usual protocols, codes that encode the output of a classifier score best, although they say nothing about
    new classes. Here the hasher is fitted on the items of 75 % of the classes, and ranks items of the other 25 %. The
    seed chooses the classes; the paper averages over splits.

    If the publisher defines parts, training items are from its training part, queries from its query part, and the
    database from its training and database parts, as in the paper. Otherwise a fifth of the unseen items are queries.

    Of items with several labels, those that have only seen labels are trained on, and those that have only unseen
    labels are queries and database. Items with labels of both kinds are left out: trained on, they would show unseen
    classes, and searched, they could be found by what was learnt.

    Args:
        seen: fraction or number of the classes that are trained on; a fraction is rounded down.
        queries: number of queries; None for all of the publisher's queries, or for a fifth of the unseen items.
        train: size of the sample of the seen training items; by default all.
        database: size of the sample of the unseen database items; by default all.
        validation_queries: queries of seen classes for choosing hyper-parameters; 0 for none.
        validation_database: items of seen classes against which these are ranked; 0 for none.

    Raises:
        InvalidInputError: an invalid size; in `split`, data without labels, or classes without enough items.

    References:
        Sablayrolles, Douze, Usunier & Jégou, "How should we evaluate supervised hashing?", ICASSP 2017.
    """

    needs_labels: ClassVar[bool] = True

    def __init__(
        self,
        seen: float = 0.75,
        queries: Size | None = None,
        train: Size = REST,
        database: Size = REST,
        validation_queries: Size = 0,
        validation_database: Size = 0,
    ) -> None:
        if isinstance(seen, str | bool) or not (0 < seen < 1 or (seen >= 1 and seen == int(seen))):
            raise InvalidInputError(
                f"protocol.seen={seen!r}; expected a fraction of the classes between 0 and 1, or a number of classes."
            )
        for size, part in ((queries, "queries"), (train, "train"), (database, "database")):
            if size is not None:
                check_size(size, part)
        self.seen = seen
        self.queries = queries
        self.train = train
        self.database = database
        self.validation = select_validation_sizes(validation_queries, validation_database)

    def split(self, n: int, labels: Tensor | None, official: np.ndarray | None, seed: int) -> Split:
        """Draw the seen classes, and the parts from the items that have only seen or only unseen labels."""
        if labels is None:
            raise InvalidInputError(
                "protocol=unseen_classes holds out classes, and the data have no labels; use data with labels."
            )
        table = as_labels(labels, n).cpu().numpy()
        classes = np.unique(table) if table.ndim == 1 else np.flatnonzero(table.any(0))
        seen = self.choose_classes(classes, seed)
        in_seen, in_unseen = find_pure_items(table, seen)
        strata = find_strata(n, labels, stratified=True)
        pools = None if official is None else find_official_pools(n, official)
        train_pool, query_pool, database_pool = in_seen, in_unseen, in_unseen
        if pools is not None:
            train_pool = np.intersect1d(in_seen, pools["train"])
            query_pool = np.intersect1d(in_unseen, pools["query"])
            database_pool = np.intersect1d(in_unseen, np.union1d(pools["train"], pools["database"]))
        for pool, wanted, source in (
            (train_pool, seen, "seen items"),
            (query_pool, np.setdiff1d(classes, seen), "unseen queries"),
            (database_pool, np.setdiff1d(classes, seen), "unseen database items"),
        ):
            check_classes(table, pool, wanted, source, least=2 if pools is None or source == "seen items" else 1)
        rows = deal({**self.validation, "train": self.train}, strata, seed, train_pool, "the seen items")
        if pools is None:
            queries = DRAWN_QUERIES if self.queries is None else self.queries
            rows |= deal({"queries": queries, "database": self.database}, strata, seed, in_unseen, "the unseen items")
        else:
            queries = REST if self.queries is None else self.queries
            rows |= deal({"queries": queries}, strata, seed, query_pool, "the unseen official queries")
            rows |= deal({"database": self.database}, strata, seed, database_pool, "the unseen official database")
        log.info("unseen classes: %s", ", ".join(map(str, np.setdiff1d(classes, seen))))
        return Split(
            train=rows["train"],
            query=rows["queries"],
            database=rows["database"],
            **{role: rows[part] for role, part in VALIDATION_ROLES.items() if part in rows},
        )

    def choose_classes(self, classes: np.ndarray, seed: int) -> np.ndarray:
        """Choose the seen classes at random, int64, ascending.

        Args:
            classes: numbers of all classes that occur.
            seed: equal seeds give equal classes.

        Raises:
            InvalidInputError: no class is seen, or none is unseen.
        """
        count = int(self.seen * len(classes)) if self.seen < 1 else int(self.seen)
        if not 0 < count < len(classes):
            raise InvalidInputError(
                f"protocol.seen={self.seen} of {len(classes)} classes leaves {count} seen and {len(classes) - count} "
                "unseen; expected at least 1 of each: change protocol.seen, or use data with more classes."
            )
        chosen: np.ndarray = np.sort(classes[random_order(len(classes), seed)[:count]])
        return chosen


def find_pure_items(labels: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of items that have only seen labels, and of those that have only unseen labels.

    Args:
        labels: class indices (n,), or an indicator bool (n, c). Items without labels are in neither.
        seen: numbers of the seen classes.

    Returns:
        int64 rows, ascending.
    """
    if labels.ndim == 1:
        is_seen = np.isin(labels, seen)
        return np.flatnonzero(is_seen), np.flatnonzero(~is_seen)
    has_seen = labels[:, seen].any(1)
    has_unseen = np.delete(labels, seen, 1).any(1)
    return np.flatnonzero(has_seen & ~has_unseen), np.flatnonzero(has_unseen & ~has_seen)


def check_classes(labels: np.ndarray, pool: np.ndarray, classes: np.ndarray, source: str, least: int) -> None:
    """Raise an error if a class has too few items in a pool; of items with several labels, only log the class.

    Raises:
        InvalidInputError: the message has the class and its number of items.
    """
    if labels.ndim == 1:
        counts = np.array([np.count_nonzero(labels[pool] == number) for number in classes])
    else:
        counts = labels[pool][:, classes].sum(0)
    few = classes[counts < least]
    if labels.ndim > 1 and len(few) < len(classes):
        if len(few):
            log.warning("%d classes have no %s without other labels: %s", len(few), source, ", ".join(map(str, few)))
        return
    if len(few):
        raise InvalidInputError(
            f"class {few[0]} has {counts[counts < least][0]} {source}, and protocol=unseen_classes needs at least "
            f"{least} of each class; remove or merge the class, or choose other classes by another seed."
        )
