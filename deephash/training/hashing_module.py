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
from deephash.metrics.pr_curve import PrecisionRecallCurve
from deephash.metrics.retrieval import HammingRetrieval, exact_mean
from deephash.metrics.stable_order import stable_order_metrics
from deephash.progress import track
from deephash.ranking.base import RankingEngine
from deephash.ranking.relevance import Relevance, on_device, select_queries
from deephash.validation import InvalidInputError

# Queries ranked in one call: many passes over the database, few enough that a bar moves.
RANKED_QUERIES = 2048
# Queries whose relevant items' ranks are held at a time: a few hundred megabytes at 100,000 relevant items each.
SORTED_QUERIES = 256


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
        radii: Hamming radii for metrics within a radius; those beyond the codes' largest distance are left out.
        stable_order: whether to add the values of a stable sort by distance, ties by database index.
    """

    def __init__(
        self,
        hasher: Hasher,
        truth: Affinity,
        ranking: RankingEngine,
        at: Sequence[int] = (100, 1000),
        radii: Sequence[int] = (2,),
        stable_order: bool = False,
    ) -> None:
        super().__init__()
        self.hasher = hasher
        self.truth = truth
        self.ranking = ranking
        self.at = tuple(at)
        self.radii = tuple(radii)
        self.stable_order = stable_order
        self.results: dict[str, float] = {}
        self.per_query: dict[str, Tensor] = {}
        self.curve: dict[str, PrecisionRecallCurve] = {}
        self.database_codes: Tensor | None = None
        self.seconds: dict[str, float] = {}
        self._codes: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._query_positions: list[Tensor] = []
        self._started = 0.0
        self._truth_is_fitted = False
        # Relevance between whole parts by the roles of database and queries; runs that share it may share the mapping.
        self.known_relevance: dict[tuple[str, str], Relevance] = {}

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
        # Parts stay in the machine's memory, whatever device their codes are on.
        if self.trainer.world_size == 1:
            relevance = on_device(self.relevance_between(database_role, query_role, self.data), query_codes.device)
        else:
            relevance = on_device(
                self.relevance(queries.rows(positions.cpu()), database, self.data), query_codes.device
            )
        self.seconds["truth"] = time.perf_counter() - self._started

        self._started = time.perf_counter()
        self._check_depths(len(database))
        metric = self.measure(query_codes, self.database_codes, relevance, positions, self.at)
        self.results = {name: float(value) for name, value in metric.compute().items()}
        self.per_query = metric.per_query()
        self.curve = metric.pr_curve()
        if self.stable_order:
            self._add_stable_order(query_codes, positions, relevance)
        self.seconds["rank"] = time.perf_counter() - self._started

    def measure(
        self, query_codes: Tensor, database_codes: Tensor, relevance: Relevance, positions: Tensor, at: Sequence[int]
    ) -> HammingRetrieval:
        """Rank queries in blocks and gather what every metric needs.

        Args:
            query_codes: packed, uint8 (q, ⌈b/8⌉).
            database_codes: packed, uint8 (N, ⌈b/8⌉).
            relevance: of the same queries and items, on the codes' device.
            positions: int64 (q,), the queries' places among all processes' queries.
            at: depths k.
        """
        distance = self.hasher.distance
        # A radius beyond the largest distance finds every item and says nothing of the codes.
        radii = [radius for radius in self.radii if radius <= distance.maximum]
        metric = HammingRetrieval(distance.maximum, at=at, radii=radii).to(self.device)
        # At least one block, so that a process without queries takes part too.
        for start in track(range(0, max(1, len(query_codes)), RANKED_QUERIES), "Ranking"):
            stop = min(start + RANKED_QUERIES, len(query_codes))
            block = select_queries(relevance, start, stop)
            counts = self.ranking.rank(query_codes[start:stop], database_codes, distance, block)
            metric.update(counts, positions[start:stop])
        return metric

    def relevance(self, queries: Part, database: Part, data: HashingDataModule) -> Relevance:
        """Relevance between two parts, on their device, with the truth fitted first where it is not."""
        self.fit_truth(data)
        return self.truth.relevance(queries.features, queries.labels, database.features, database.labels)

    def relevance_between(self, database_role: str, query_role: str, data: HashingDataModule) -> Relevance:
        """Relevance between whole parts, computed once."""
        roles = (database_role, query_role)
        if roles not in self.known_relevance:
            self.known_relevance[roles] = self.relevance(data.part(query_role), data.part(database_role), data)
        return self.known_relevance[roles]

    def fit_truth(self, data: HashingDataModule) -> None:
        """Let the truth learn what it needs, once for fitting, scoring and report.

        Args:
            data: set up; the truth says from which part it learns, by rule the training part.
        """
        if self._truth_is_fitted:
            return
        part = data.part(self.truth.learns_from)
        self.truth.fit(part.features, part.labels)
        self._truth_is_fitted = True

    def share_truth(self, other: "HashingModule") -> None:
        """Take the truth of another module of the same run, as far as it is fitted, and the relevance that it found."""
        self.truth = other.truth
        self._truth_is_fitted = other._truth_is_fitted
        self.known_relevance = other.known_relevance

    def _add_stable_order(self, query_codes: Tensor, positions: Tensor, relevance: Relevance) -> None:
        """Add what code that sorts would print, under names of its own."""
        assert self.database_codes is not None
        blocks = []
        for start in track(range(0, len(query_codes), SORTED_QUERIES), "Ranks of relevant items"):
            stop = min(start + SORTED_QUERIES, len(query_codes))
            offsets, ranks = self.ranking.relevant_ranks(
                query_codes[start:stop],
                self.database_codes,
                self.hasher.distance,
                select_queries(relevance, start, stop),
            )
            blocks.append(torch.stack(list(stable_order_metrics(offsets, ranks, self.at).values()), 1))
        names = list(stable_order_metrics(*_no_ranks(self.device), self.at))
        local = torch.cat(blocks) if blocks else torch.empty(0, len(names), dtype=torch.float64, device=self.device)
        order = self._gather_rows(positions[:, None])[:, 0].argsort()
        values = self._gather_rows(local)[order]
        for name, column in zip(names, values.unbind(1), strict=True):
            self.per_query[name] = column
            self.results[name] = float(exact_mean(column))

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
        lengths = [int(length) for length in all_gather(torch.tensor([len(rows)], device=rows.device), processes)]
        padded = rows.new_zeros((max(lengths), rows.shape[1]))
        padded[: len(rows)] = rows
        gathered = all_gather(padded, processes)
        return torch.cat([share[:length] for share, length in zip(gathered, lengths, strict=True)])


def all_gather(tensor: Tensor, processes: int) -> list[Tensor]:
    """A tensor of the same shape from every process, in the order of their ranks."""
    gathered = [torch.empty_like(tensor) for _ in range(processes)]
    torch.distributed.all_gather(gathered, tensor)
    return gathered


def _no_ranks(device: torch.device) -> tuple[Tensor, Tensor]:
    """Offsets and ranks of no query at all."""
    return torch.zeros(1, dtype=torch.int64, device=device), torch.empty(0, dtype=torch.int64, device=device)
