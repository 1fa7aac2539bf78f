"""Scoring as a Lightning loop: encode database and queries, rank, and measure, on one process or several."""

import time
from collections.abc import Sequence
from typing import Any, cast

import lightning
import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.data.base import HashingDataModule
from deephash.data.items import Part
from deephash.hasher import Hasher
from deephash.metrics.retrieval import HammingRetrieval
from deephash.ranking.base import RankingEngine
from deephash.validation import InvalidInputError


class HashingModule(lightning.LightningModule):
    """A hasher with what it takes to score it.

    `trainer.test` ranks the test queries against the database, `trainer.validate` the validation queries against the
    validation database. Each process encodes its share of both, all share the database's codes, and each ranks its own
    queries, so that the figures do not depend on how many there are. Afterwards `results`, `metric`,
    `database_codes` and `seconds` hold what the report needs.

    Args:
        hasher: what turns features into codes.
        truth: which items are relevant to which query.
        ranking: the engine that ranks codes.
        at: depths k for metrics at k.
        radii: Hamming radii for metrics within a radius.
    """

    def __init__(
        self,
        hasher: Hasher,
        truth: Affinity,
        ranking: RankingEngine,
        at: Sequence[int] = (100, 1000),
        radii: Sequence[int] = (2,),
    ) -> None:
        super().__init__()
        self.hasher = hasher
        self.truth = truth
        self.ranking = ranking
        self.at = tuple(at)
        self.radii = tuple(radii)
        self.results: dict[str, float] = {}
        self.per_query: dict[str, Tensor] = {}
        self.curve: tuple[Tensor, Tensor] | None = None
        self.database_codes: Tensor | None = None
        self.seconds: dict[str, float] = {}
        self._codes: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._query_positions: list[Tensor] = []
        self._started = 0.0

    @property
    def data(self) -> HashingDataModule:
        """The trainer's data module."""
        return cast(HashingDataModule, self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_test_epoch_start(self) -> None:
        """Forget the codes of an earlier scoring."""
        self._codes = ([], [])
        self._query_positions = []
        self._started = time.perf_counter()

    def on_validation_epoch_start(self) -> None:
        """Forget the codes of an earlier scoring."""
        self.on_test_epoch_start()

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one block: of the database from loader 0, of the queries from loader 1."""
        self._codes[dataloader_idx].append(self.hasher.encode(batch["features"]))
        if dataloader_idx == 1:
            self._query_positions.append(batch["positions"])

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one block, as `test_step`."""
        self.test_step(batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Rank the test queries against the database."""
        self._score("database", "query")

    def on_validation_epoch_end(self) -> None:
        """Rank the validation queries against the validation database."""
        self._score("validation_database", "validation_query")

    def _score(self, database_role: str, query_role: str) -> None:
        """Rank this process's queries against the whole database and reduce the metrics over all processes."""
        database, queries = self.data.part(database_role), self.data.part(query_role)
        self.database_codes = self._gather_rows(self._concatenate(self._codes[0]))
        query_codes = self._concatenate(self._codes[1])
        positions = torch.cat(self._query_positions) if self._query_positions else torch.empty(0, dtype=torch.int64)
        positions = positions.to(query_codes.device)
        self.seconds["encode"] = time.perf_counter() - self._started

        self._started = time.perf_counter()
        relevance = relevance_of(self.truth, self.data.part("train"), queries.rows(positions.cpu()), database)
        self.seconds["truth"] = time.perf_counter() - self._started

        self._started = time.perf_counter()
        distance = self.hasher.distance
        self._check_depths(len(database))
        counts = self.ranking.rank(query_codes, self.database_codes, distance, relevance)
        metric = HammingRetrieval(distance.maximum, at=self.at, radii=self.radii).to(self.device)
        metric.update(counts, positions)
        self.results = {name: float(value) for name, value in metric.compute().items()}
        self.per_query = metric.per_query()
        self.curve = metric.pr_curve()
        self.seconds["rank"] = time.perf_counter() - self._started

    def _check_depths(self, items: int) -> None:
        too_deep = [k for k in self.at if k > items]
        if too_deep:
            raise InvalidInputError(
                f"metrics.at={list(self.at)} asks for the first {max(too_deep)} of a database of {items} items; "
                f"set metrics.at=[{max(1, items // 10)}] or another depth up to {items}."
            )

    def _concatenate(self, blocks: list[Tensor]) -> Tensor:
        from deephash.codes import code_bytes

        if blocks:
            return torch.cat(blocks)
        width = code_bytes(self.hasher.distance.code_bits)
        return torch.empty(0, width, dtype=torch.uint8, device=self.device)

    def _gather_rows(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in order; shares may differ in length, which the padding evens out on the way."""
        processes = self.trainer.world_size
        if processes == 1:
            return rows
        lengths = cast(Tensor, self.all_gather(torch.tensor(len(rows), device=rows.device))).tolist()
        padded = rows.new_zeros((max(lengths), rows.shape[1]))
        padded[: len(rows)] = rows
        gathered = cast(Tensor, self.all_gather(padded))
        return torch.cat([gathered[rank, :length] for rank, length in enumerate(lengths)])


def relevance_of(truth: Affinity, train: Part, queries: Part, database: Part) -> Any:
    """Relevance between two parts, with what the truth learns taken from the training part alone."""
    truth.fit(train.features, train.labels)
    return truth.relevance(queries.features, queries.labels, database.features, database.labels)

