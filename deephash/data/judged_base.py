"""The base class of data with judgements: queries search passages, and judgements say which passages are relevant."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deephash.data.base import HashingDataModule
from deephash.data.digests import words_digest
from deephash.data.file_features import read_or_describe_texts
from deephash.data.items import Items
from deephash.data.judged_pairs import JudgedPairs
from deephash.data.protocols.base import Protocol, Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError, is_number

PASSAGE, TRAINING, VALIDATION, TEST = "both", "training_query", "validation_query", "query"
"""Official part of passages, which are fitted on and searched, and of queries."""


@dataclass(frozen=True)
class Collection:
    """Texts of passages and queries, with judgements.

    Args:
        passages: text of each passage by its id.
        queries: text of each query by its id.
        judgements: for the official part of queries TRAINING, VALIDATION or TEST, the grades by query id and passage
            id; grades below 1 are not relevant. All ids have a text, and a query is in one part.
    """

    passages: Mapping[str, str]
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[tuple[str, str], int]]


class JudgedData(HashingDataModule):
    """Passages and queries as features of one text descriptor. Subclasses implement `read_collection`.

    Items are the passages, in the order of the files, and then the queries that have judgements. Passages are in the
    training part and in the database, and the test queries are queries. Validation queries search the same database.
    Training queries are in no role; `get_training_pairs` returns their judgements.

    Args:
        protocol: see `HashingDataModule`; `Official`, which keeps the judged queries.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: folder or file of the collection.
        text_descriptor: computes and caches the features of texts.
        query_prefix: text before each query, such as "query: ", as some models need.
        passage_prefix: text before each passage, such as "passage: ".
        cache: folder of computed features.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int,
        split: Split | None,
        path: str,
        text_descriptor: TextDescriptor,
        query_prefix: str,
        passage_prefix: str,
        cache: FilePath,
    ) -> None:
        super().__init__(protocol, seed, split)
        self.path = Path(path).expanduser()
        self.text_descriptor = text_descriptor
        self.query_prefix = query_prefix
        self.passage_prefix = passage_prefix
        self.cache = Path(cache).expanduser()

    @abstractmethod
    def read_collection(self) -> Collection:
        """Read the texts and the judgements.

        Raises:
            InvalidInputError: a missing or malformed file.
        """

    def are_labelled(self) -> bool:
        """Return False: passages have judgements, but no labels."""
        return False

    def prepare_data(self) -> None:
        """Compute the features once."""
        if not self.is_read:
            self.load()

    def load(self) -> Items:
        """Read the collection, and the cached features.

        Raises:
            InvalidInputError: a missing or malformed file.
        """
        collection = self.read_collection()
        judged = {part: sorted({query for query, _ in pairs}) for part, pairs in collection.judgements.items()}
        passage_rows = {passage: row for row, passage in enumerate(collection.passages)}
        asked = [query for queries in judged.values() for query in queries]
        query_rows = {query: row for row, query in enumerate(asked, len(passage_rows))}
        pairs = [
            (query_rows[query], passage_rows[passage], grade)
            for graded in collection.judgements.values()
            for (query, passage), grade in graded.items()
            if grade > 0
        ]
        texts = [*collection.passages.values(), *(collection.queries[query] for query in asked)]
        prefixes = [self.passage_prefix] * len(passage_rows) + [self.query_prefix] * len(asked)
        described = [prefix + text for prefix, text in zip(prefixes, texts, strict=True)]
        parts = [PASSAGE, *judged]
        sizes = [len(passage_rows), *(len(queries) for queries in judged.values())]
        return Items(
            read_or_describe_texts(described, self.text_descriptor, self.cache),
            official=np.repeat(parts, sizes),
            texts=tuple(texts),
            computed_from={"": words_digest(described)},
            judgements=JudgedPairs(*torch.tensor(pairs, dtype=torch.int64).reshape(-1, 3).T),
        )

    def setup(self, stage: str | None = None) -> None:
        """Load the items and split them, once; validation queries search the whole database.

        Raises:
            InvalidInputError: as in `HashingDataModule.setup`, or a split whose queries are passages.
        """
        super().setup(stage)
        drawn = np.isin(self.split.role("query"), self._find_queries(PASSAGE))
        if drawn.any():
            raise InvalidInputError(
                f"{drawn.sum()} of {len(drawn)} queries of the split are passages, which have no judgements; choose "
                "protocol=official, whose queries are those with judgements."
            )
        validation = self._find_queries(VALIDATION)
        if len(validation) and not self._held_out:
            self._hold_queries(validation)

    @property
    def has_validation(self) -> bool:
        """Whether there are validation queries, from the files or held out."""
        return bool(self._held_out)

    @property
    def held_out(self) -> int:
        """Number of training queries held out."""
        held = self._held_out.get(VALIDATION, np.empty(0, np.int64))
        return int(np.isin(held, self._find_queries(TRAINING)).sum())

    def hold_out(self, share: float) -> None:
        """Hold out validation queries from the training queries, to search the whole database.

        Args:
            share: fraction of the training queries, above 0 and below 1.

        Raises:
            InvalidInputError: an invalid share, or too few training queries for it.
        """
        if not is_number(share) or not 0 < share < 1:
            raise InvalidInputError(f"train.holdout={share!r}; expected a fraction between 0 and 1.")
        queries = self._find_queries(TRAINING)
        held = round(share * len(queries))
        if held < 1 or held == len(queries):
            raise InvalidInputError(
                f"train.holdout={share} of {len(queries)} training queries leaves {held} to choose the epoch; give "
                "more judged training queries, give validation queries, or keep the last epoch by train.select_by=null."
            )
        self._hold_queries(np.sort(np.random.default_rng(self.seed).permutation(queries)[:held]))

    def get_training_pairs(self) -> JudgedPairs:
        """Return the judgements of the training queries, without those held out."""
        assert self.items.judgements is not None
        held = self._held_out.get(VALIDATION, np.empty(0, np.int64))
        queries = np.setdiff1d(self._find_queries(TRAINING), held)
        return self.items.judgements.of_queries(torch.from_numpy(queries))

    def _hold_queries(self, rows: np.ndarray) -> None:
        self._held_out = {VALIDATION: rows, "validation_database": self.split.role("database")}

    def _find_queries(self, part: str) -> np.ndarray:
        official = self.items.official
        assert official is not None
        rows: np.ndarray = np.flatnonzero(official == part)
        return rows
