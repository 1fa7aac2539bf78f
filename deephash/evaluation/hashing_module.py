"""Scoring as a Lightning loop: encode database and queries, rank, and measure, on one process or several."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import lightning
import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.codes import code_bytes
from deephash.data.base import HashingDataModule
from deephash.data.items import Part
from deephash.evaluation.learnt_codes import FUNCTIONS, LEARNT, LearntCodes, check_learnt
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.hasher_views import encode_views, get_directions, get_views
from deephash.io.progress import track
from deephash.metrics.hamming_retrieval import HammingRetrieval, exact_mean
from deephash.metrics.pr_curve import PrecisionRecallCurve
from deephash.metrics.stable_order import stable_order_metrics
from deephash.metrics.user_metric import UserMetric
from deephash.ranking.base import RankingEngine
from deephash.ranking.graded_counts import GradedCounts, graded_counts
from deephash.ranking.relevance import Relevance, SharedLabels, move_relevance, select_queries
from deephash.validation import InvalidInputError

# Queries ranked in one call: many passes over the database, few enough that a bar moves.
RANKED_QUERIES = 2048
# Queries whose relevant items' ranks are held at a time: a few hundred megabytes at 100,000 relevant items each.
SORTED_QUERIES = 256


@dataclass(frozen=True)
class CodedItems:
    """Codes, and the places of the items that they are of.

    Args:
        codes: packed, uint8 (m, ⌈b/8⌉).
        positions: int64 (m,), places of the items in their part of the split.
    """

    codes: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class DirectionScores:
    """Scores for one query view against one database view.

    Args:
        results: metrics by name, means over the queries.
        per_query: each query's own values by metric, (q,).
        curve: precision and recall by radius, micro- and macro-averaged.
    """

    results: dict[str, float]
    per_query: dict[str, Tensor]
    curve: dict[str, PrecisionRecallCurve]


def direction_name(query_view: str, database_view: str) -> str:
    """What a direction is called in results: image_to_text."""
    return f"{query_view}_to_{database_view}"


def all_results(scores: Mapping[tuple[str, str], DirectionScores]) -> dict[str, float]:
    """The metrics of one view; of two, means over the directions across views, then each direction's own.

    Args:
        scores: by the views that ask and are searched.
    """
    if len(scores) == 1:
        (only,) = scores.values()
        return only.results
    across = [found.results for (one, other), found in scores.items() if one != other]
    results = {name: sum(found[name] for found in across) / len(across) for name in across[0]}
    results["skipped_queries"] = sum(found["skipped_queries"] for found in across)
    for direction, found in scores.items():
        name = direction_name(*direction)
        results |= {f"{name}/{metric}": value for metric, value in found.results.items() if metric != "skipped_queries"}
    return results


class HashingModule(lightning.LightningModule):
    """A hasher with what it takes to score it.

    `trainer.test` ranks the test queries against the database, `trainer.validate` the validation queries against the
    validation database. Each process encodes its share of both, all share the database's codes, and each ranks its own
    queries, so that the figures do not depend on how many there are. Afterwards `results`, `scores`, `codes` and
    `seconds` hold what the report needs.

    With two views each view asks and each is searched: `scores` has an entry for each of the four directions, and
    `results` the means over the two across views, which is what cross-modal retrieval is, then each direction's own.

    Args:
        hasher: what turns features, of one view or of two, into codes.
        truth: which items are relevant to which query.
        ranking: the engine that ranks codes.
        at: depths k for metrics at k.
        radii: Hamming radii for metrics within a radius; those beyond the codes' largest distance are left out.
        user_metrics: what users of the ranked lists get; grades are the labels in common, where queries have several.
        stable_order: whether to add the values of a stable sort by distance, ties by database index.
        database_codes: "functions", or "learnt": items of the database are ranked by the codes that the fit learnt for
            them, with their labels where it has those, which is another task and goes by its own name.
    """

    def __init__(
        self,
        hasher: Hasher | CrossModalHasher,
        truth: Affinity,
        ranking: RankingEngine,
        at: Sequence[int] = (100, 1000),
        radii: Sequence[int] = (2,),
        user_metrics: Sequence[UserMetric] = (),
        stable_order: bool = False,
        database_codes: str = FUNCTIONS,
    ) -> None:
        super().__init__()
        self.hasher = hasher
        self.truth = truth
        self.ranking = ranking
        self.at = tuple(at)
        self.radii = tuple(radii)
        self.user_metrics = tuple(user_metrics)
        self.stable_order = stable_order
        self.database_codes = database_codes
        # What the fit learnt for its training items themselves, where it did.
        self.learnt: LearntCodes | None = None
        # Depths that were lowered to the size of the database, in words.
        self.lowered: list[str] = []
        self.results: dict[str, float] = {}
        self.scores: dict[tuple[str, str], DirectionScores] = {}
        # Codes of the database and of this process's queries, by view, with the places of their items in those parts.
        self.codes: tuple[dict[str, CodedItems], dict[str, CodedItems]] = ({}, {})
        self.seconds: dict[str, float] = {}
        self._blocks: tuple[dict[str, list[CodedItems]], dict[str, list[CodedItems]]] = ({}, {})
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
        self._blocks = ({}, {})
        self._started = time.perf_counter()

    def on_validation_epoch_start(self) -> None:
        """Forget the codes of an earlier scoring."""
        self.on_test_epoch_start()

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one block: of the database from loader 0, of the queries from loader 1."""
        self._encode_block(self.hasher, batch, dataloader_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one block, as `test_step`."""
        self._encode_block(self.hasher, batch, dataloader_idx)

    def _encode_block(self, hasher: Hasher | CrossModalHasher, batch: dict[str, Any], loader: int) -> None:
        for view, (codes, rows) in encode_views(hasher, batch["features"]).items():
            self._blocks[loader].setdefault(view, []).append(CodedItems(codes, batch["positions"][rows]))

    def on_test_epoch_end(self) -> None:
        """Rank the test queries against the database."""
        self._score("database", "query")

    def on_validation_epoch_end(self) -> None:
        """Rank the validation queries against the validation database."""
        self._score("validation_database", "validation_query")

    def _score(self, database_role: str, query_role: str) -> None:
        """Rank this process's queries against the whole database and reduce the metrics over all processes."""
        views = tuple(get_views(self.hasher))
        searched = {view: self._gathered(self._concatenated(self._blocks[0], view)) for view in views}
        asking = {view: self._concatenated(self._blocks[1], view) for view in views}
        if self.database_codes == LEARNT:
            searched = {view: self._learnt(items, database_role) for view, items in searched.items()}
        self.codes = (searched, asking)
        self.seconds["encode"] = time.perf_counter() - self._started
        self._check_depths(min(len(items) for items in searched.values()))
        alone = self.trainer.world_size == 1
        self.scores = self.scores_between(asking, searched, (database_role, query_role), self.data, self.at, alone)
        self.results = all_results(self.scores)

    def scores_between(
        self,
        asking: "Mapping[str, CodedItems]",
        searched: "Mapping[str, CodedItems]",
        roles: tuple[str, str],
        data: HashingDataModule,
        at: Sequence[int],
        alone: bool = True,
    ) -> "dict[tuple[str, str], DirectionScores]":
        """Rank coded queries against coded items in every direction, and measure over all processes.

        Args:
            asking: this process's queries by view, on the device to work on.
            searched: all items of the database by view, there too.
            roles: of the database and of the queries.
            data: set up.
            at: depths k.
            alone: whether there is no other process, so that `asking` is the whole part.
        """
        database, queries = data.part(roles[0]), data.part(roles[1])
        self.seconds["truth"] = self.seconds["rank"] = 0.0
        scores = {}
        for query_view, database_view in get_directions(self.hasher):
            started = time.perf_counter()
            one, other = asking[query_view], searched[database_view]
            if alone and len(one) == len(queries) and len(other) == len(database):
                relevance = self.relevance_between(*roles, data)
            else:
                # Parts stay in the machine's memory, whatever device their codes are on.
                items = database if len(other) == len(database) else database.rows(other.positions.cpu())
                relevance = self.relevance(queries.rows(one.positions.cpu()), items, data)
            relevance = move_relevance(relevance, one.codes.device)
            self.seconds["truth"] += time.perf_counter() - started
            started = time.perf_counter()
            highest = highest_grade(relevance, queries)
            metric = self.measure(one.codes, other.codes, relevance, one.positions, at, highest)
            found = DirectionScores(
                {name: float(value) for name, value in metric.compute().items()}, metric.per_query(), metric.pr_curve()
            )
            if self.stable_order:
                self._add_stable_order(found, one, other, relevance)
            scores[query_view, database_view] = found
            self.seconds["rank"] += time.perf_counter() - started
        return scores

    def coded(self, part: Part) -> "dict[str, CodedItems]":
        """Codes of a part's items by view, computed here on the device of the weights."""
        found = encode_views(self.hasher, part.features.to(self.device))
        return {view: CodedItems(codes, rows) for view, (codes, rows) in found.items()}

    def measure(
        self,
        query_codes: Tensor,
        database_codes: Tensor,
        relevance: Relevance,
        positions: Tensor,
        at: Sequence[int],
        highest: int = 1,
    ) -> HammingRetrieval:
        """Rank queries in blocks and gather what every metric needs.

        Args:
            query_codes: packed, uint8 (q, ⌈b/8⌉).
            database_codes: packed, uint8 (N, ⌈b/8⌉).
            relevance: of the same queries and items, on the codes' device.
            positions: int64 (q,), the queries' places among all processes' queries.
            at: depths k.
            highest: highest grade of relevance of any process's queries.
        """
        distance = self.hasher.distance
        # A radius beyond the largest distance finds every item and says nothing of the codes.
        radii = [radius for radius in self.radii if radius <= distance.maximum]
        user_metrics = [metric for metric in self.user_metrics if metric.depth <= len(database_codes)]
        metric = HammingRetrieval(
            distance.maximum, at=at, radii=radii, user_metrics=user_metrics, highest_grade=highest
        ).to(self.device)
        # At least one block, so that a process without queries takes part too.
        for start in track(range(0, max(1, len(query_codes)), RANKED_QUERIES), "Ranking"):
            stop = min(start + RANKED_QUERIES, len(query_codes))
            block, codes = select_queries(relevance, start, stop), query_codes[start:stop]
            counts = self.ranking.rank(codes, database_codes, distance, block)
            graded: GradedCounts | None = None
            if metric.takes_grades:
                assert isinstance(block, SharedLabels)  # Nothing else has grades.
                graded = graded_counts(codes, database_codes, distance, block.query, block.database, highest)
            metric.update(counts, positions[start:stop], graded)
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

    def _add_stable_order(
        self, scores: "DirectionScores", queries: "CodedItems", database: "CodedItems", relevance: Relevance
    ) -> None:
        """Add what code that sorts would print, under names of its own."""
        blocks = []
        for start in track(range(0, len(queries), SORTED_QUERIES), "Ranks of relevant items"):
            stop = min(start + SORTED_QUERIES, len(queries))
            offsets, ranks = self.ranking.relevant_ranks(
                queries.codes[start:stop],
                database.codes,
                self.hasher.distance,
                select_queries(relevance, start, stop),
            )
            blocks.append(torch.stack(list(stable_order_metrics(offsets, ranks, self.at).values()), 1))
        names = list(stable_order_metrics(*_no_ranks(self.device), self.at))
        local = torch.cat(blocks) if blocks else torch.empty(0, len(names), dtype=torch.float64, device=self.device)
        order = self._gather_rows(queries.positions[:, None])[:, 0].argsort()
        values = self._gather_rows(local)[order]
        for name, column in zip(names, values.unbind(1), strict=True):
            scores.per_query[name] = column
            scores.results[name] = float(exact_mean(column))

    def _learnt(self, items: "CodedItems", role: str) -> "CodedItems":
        """The same items of a role by the codes that the fit learnt for them."""
        ids = torch.from_numpy(self.data.ids(role))[items.positions.cpu()]
        codes = check_learnt(self.learnt, self.hasher).of(ids)
        return CodedItems(codes.to(items.codes.device), items.positions)

    def _check_depths(self, items: int) -> None:
        for metric in self.user_metrics:
            if metric.depth > items:
                name = type(metric).__module__.rpartition(".")[2]
                raise InvalidInputError(
                    f"user_metric.{name} asks for the first {metric.depth} of a database of {items} items; lower its "
                    "depth or leave it out of user_metric=[...]."
                )
        too_deep = [k for k in self.at if k > items]
        if too_deep:
            raise InvalidInputError(
                f"metrics.at={list(self.at)} asks for the first {max(too_deep)} of a database of {items} items; "
                f"set metrics.at=[{max(1, items // 10)}] or another depth up to {items}."
            )

    def _concatenated(self, blocks: "dict[str, list[CodedItems]]", view: str) -> "CodedItems":
        """The blocks of a view as one; of no rows where this process had none."""
        found = blocks.get(view)
        if found:
            return CodedItems(
                torch.cat([block.codes for block in found]), torch.cat([block.positions for block in found])
            )
        codes = torch.empty(0, code_bytes(self.hasher.distance.code_bits), dtype=torch.uint8, device=self.device)
        return CodedItems(codes, torch.empty(0, dtype=torch.int64, device=self.device))

    def _gathered(self, items: "CodedItems") -> "CodedItems":
        """The coded items of all processes, in order."""
        return CodedItems(
            self._gather_rows(items.codes), self._gather_rows(items.positions.to(items.codes.device)[:, None])[:, 0]
        )

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


def highest_grade(relevance: Relevance, queries: Part) -> int:
    """The highest grade of relevance of a part's queries: the most labels of one; 1 where there are no grades."""
    if not isinstance(relevance, SharedLabels) or queries.labels is None or not len(queries):
        return 1
    return max(1, int(queries.labels.sum(1).max()))


def all_gather(tensor: Tensor, processes: int) -> list[Tensor]:
    """A tensor of the same shape from every process, in the order of their ranks."""
    gathered = [torch.empty_like(tensor) for _ in range(processes)]
    torch.distributed.all_gather(gathered, tensor)
    return gathered


def _no_ranks(device: torch.device) -> tuple[Tensor, Tensor]:
    """Offsets and ranks of no query at all."""
    return torch.zeros(1, dtype=torch.int64, device=device), torch.empty(0, dtype=torch.int64, device=device)
