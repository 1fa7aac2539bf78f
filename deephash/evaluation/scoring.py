"""Retrieval scores as a pure function of codes, relevance and settings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.io.progress import track
from deephash.metrics.checks import check_query_ids
from deephash.metrics.hamming_retrieval import HammingRetrieval, exact_mean
from deephash.metrics.pr_curve import PrecisionRecallCurve
from deephash.metrics.stable_order import stable_order_metrics
from deephash.metrics.user_metric import UserMetric
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Asymmetric, Distance
from deephash.ranking.graded_counts import GradedCounts, graded_counts
from deephash.ranking.inputs import convert_codes
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabels, count_queries, select_queries
from deephash.validation import InvalidInputError

# Queries ranked in one call: many, but few enough for a progress bar to move.
RANKED_QUERIES = 2048
# Queries whose ranks of relevant items are in memory at a time: a few hundred megabytes at 100,000 relevant items each.
SORTED_QUERIES = 256


@dataclass(frozen=True)
class ScoreSettings:
    """Metrics to compute.

    Args:
        at: depths k of the metrics at k.
        radii: Hamming radii of the metrics within a radius. Radii above the largest distance of the codes are ignored,
            because they find every item.
        user_metrics: metrics of simulated users. If queries have several labels, the number of shared labels is the
            grade of relevance; listed neighbours may have grades of their own.
        stable_order: whether to add the scores of a stable sort by distance, with ties in database order.
    """

    at: tuple[int, ...] = ()
    radii: tuple[int, ...] = ()
    user_metrics: tuple[UserMetric, ...] = ()
    stable_order: bool = False

    def __post_init__(self) -> None:
        for name in ("at", "radii", "user_metrics"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise InvalidInputError(f"{name}={values!r}; expected a tuple, for example {name}=({values!r},).")
            object.__setattr__(self, name, tuple(values))
        for metric in self.user_metrics:
            check_kind(metric, UserMetric, "a user metric")

    def within(self, items: int) -> "ScoreSettings":
        """Return these settings without depths above the size of the database."""
        return replace(
            self,
            at=tuple(k for k in self.at if k <= items),
            user_metrics=tuple(metric for metric in self.user_metrics if metric.depth <= items),
        )

    def build_metric(
        self, maximum_distance: int, highest_grade: int = 1, synchronise: bool = False
    ) -> HammingRetrieval:
        """Build the metric that accumulates distance counts.

        Args:
            maximum_distance: largest distance of the codes.
            highest_grade: highest grade of relevance of any query; 1 without grades.
            synchronise: whether figures are computed over the queries of all processes.
        """
        radii = [radius for radius in self.radii if radius <= maximum_distance]
        options = {} if synchronise else {"distributed_available_fn": lambda: False}
        return HammingRetrieval(
            maximum_distance,
            at=self.at,
            radii=radii,
            user_metrics=self.user_metrics,
            highest_grade=highest_grade,
            **options,
        )


@dataclass(frozen=True)
class Scores:
    """Scores for one query view against one database view.

    Args:
        results: metrics by name, means over the queries.
        per_query: values of each query by metric, (q,).
        curve: precision-recall curves by radius, "micro" and "macro".
    """

    results: dict[str, float]
    per_query: dict[str, Tensor]
    curve: dict[str, PrecisionRecallCurve]


def score_codes(
    query_codes: Tensor | ArrayLike,
    database_codes: Tensor | ArrayLike,
    relevance: Relevance,
    distance: Distance,
    ranking: RankingEngine | None = None,
    settings: ScoreSettings | None = None,
    *,
    query_ids: Tensor | None = None,
    highest_grade: int | None = None,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> Scores:
    """Rank the database for each query and compute the scores.

    Args:
        query_codes: packed codes, uint8 (q, ⌈b/8⌉).
        database_codes: packed codes, uint8 (N, ⌈b/8⌉), on the same device.
        relevance: relevance of the database items to the queries, on the same device.
        distance: distance of the codes, such as `hasher.distance`.
        ranking: engine that ranks the codes; None chooses one for the device.
        settings: metrics to compute; None computes those without a depth or radius.
        query_ids: int64 (q,), distinct numbers of the queries over all processes; None numbers them from 0.
        highest_grade: highest grade of relevance of the queries of any process; None derives it from `relevance`.
        gather: function that concatenates the rows of all processes, for a process that has some of the queries; None
            if this process has all of them.

    Returns:
        The scores over the queries of all processes.

    Raises:
        InvalidInputError: a depth exceeds the size of the database, there is no query or no item, codes and
            relevance do not match, or an argument has the wrong type or shape.

    Examples:
        >>> from deephash.ranking.distance import Hamming
        >>> from deephash.ranking.relevance import SharedLabel
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> relevance = SharedLabel(torch.tensor([0]), torch.tensor([0, 1, 0, 1]))
        >>> scores = score_codes(codes[:1], codes, relevance, Hamming(8), settings=ScoreSettings(at=(2,)))
        >>> round(scores.results["mAP"], 4), scores.results["precision@2"]
        (0.8333, 0.5)
    """
    ranking, settings = ranking or AutoEngine(), settings or ScoreSettings()
    for value, kind, name in (
        (relevance, Relevance, "relevance"),
        (distance, Distance, "distance"),
        (ranking, RankingEngine, "ranking"),
        (settings, ScoreSettings, "settings"),
    ):
        check_kind(value, kind, name)
    query_codes, database_codes = convert_codes(query_codes, database_codes, distance)
    queries = len(query_codes)
    if gather is None and queries == 0:
        raise InvalidInputError("query codes have 0 rows; expected at least one query.")
    if len(database_codes) == 0:
        raise InvalidInputError("database codes have 0 rows; expected at least one item.")
    if queries != count_queries(relevance):
        raise InvalidInputError(
            f"the relevance is of {count_queries(relevance)} queries and there are {queries} query codes; pass both "
            "for the same queries."
        )
    if query_ids is None:
        query_ids = torch.arange(queries, device=query_codes.device)
    check_query_ids(query_ids, queries)
    if highest_grade is None:
        highest_grade = find_highest_grade(relevance, relevance.query if isinstance(relevance, SharedLabels) else None)
    metric = settings.build_metric(distance.maximum, highest_grade, synchronise=gather is not None)
    metric = metric.to(query_codes.device)
    # At least one block, so that a process without queries takes part in the synchronisation.
    # An asymmetric distance contains the weights of all queries, so all are ranked in one block.
    size = max(1, queries) if isinstance(distance, Asymmetric) else RANKED_QUERIES
    for start in track(range(0, max(1, queries), size), "Ranking"):
        stop = min(start + size, queries)
        block, codes = select_queries(relevance, start, stop), query_codes[start:stop]
        counts = ranking.rank(codes, database_codes, distance, block)
        graded: GradedCounts | None = None
        if metric.takes_grades:
            assert isinstance(block, SharedLabels | Neighbours)  # A single label has no grades.
            if isinstance(block, Neighbours):
                levels = [block.at_least(grade) for grade in range(2, highest_grade + 1)]
                ranked = [ranking.rank(codes, database_codes, distance, level) for level in levels]
                graded = GradedCounts.from_nested(counts, *ranked)
            else:
                graded = graded_counts(codes, database_codes, distance, block.query, block.database, highest_grade)
        metric.update(counts, query_ids[start:stop], graded)
    scores = compute_scores(metric)
    if not settings.stable_order:
        return scores
    columns = rank_in_stable_order(query_codes, database_codes, relevance, distance, ranking, settings.at)
    if gather is not None:
        columns = gather(columns)[gather(query_ids[:, None])[:, 0].argsort()]
    else:
        columns = columns[query_ids.argsort()]
    names = list_stable_order_names(settings.at)
    by_name = dict(zip(names, columns.unbind(1), strict=True))
    means = {name: float(exact_mean(column)) for name, column in by_name.items()}
    return Scores(scores.results | means, scores.per_query | by_name, scores.curve)


def check_kind(value: Any, kind: Any, name: str) -> None:
    """Raise an error if an argument is not an instance of a class or union of classes."""
    if not isinstance(value, kind):
        expected = " or ".join(part.__name__ for part in get_args(kind) or (kind,))
        raise InvalidInputError(f"{name} is a {type(value).__name__}; expected an object of {expected}.")


def score_counts(counts: DistanceCounts, settings: ScoreSettings | None = None) -> Scores:
    """Compute the scores of queries whose distance counts are known.

    Args:
        counts: items and relevant items at each distance, int64 (q, D + 1).
        settings: metrics to compute; None computes those without a depth or radius.

    Raises:
        InvalidInputError: a depth exceeds the size of the database.
    """
    metric = (settings or ScoreSettings()).build_metric(counts.total.shape[1] - 1).to(counts.total.device)
    metric.update(counts, torch.arange(len(counts.total), device=counts.total.device))
    return compute_scores(metric)


def compute_scores(metric: HammingRetrieval) -> Scores:
    """Compute the scores from the counts that a metric has accumulated."""
    results = {name: float(value) for name, value in metric.compute().items()}
    return Scores(results, metric.per_query(), metric.pr_curve())


def find_highest_grade(relevance: Relevance, query_labels: Tensor | None) -> int:
    """Return the highest grade: of listed neighbours, or the largest number of labels of a query; 1 without grades.

    Args:
        relevance: relevance for the queries.
        query_labels: labels of the queries of all processes.
    """
    if isinstance(relevance, Neighbours):
        return relevance.highest_grade
    if not isinstance(relevance, SharedLabels) or query_labels is None or not len(query_labels):
        return 1
    return max(1, int(query_labels.sum(1).max()))


def rank_in_stable_order(
    query_codes: Tensor,
    database_codes: Tensor,
    relevance: Relevance,
    distance: Distance,
    ranking: RankingEngine,
    at: tuple[int, ...],
) -> Tensor:
    """Compute the scores of a stable sort by distance: float64 (q, m), in the order of `list_stable_order_names`."""
    blocks = [torch.empty(0, len(list_stable_order_names(at)), dtype=torch.float64, device=query_codes.device)]
    for start in track(range(0, len(query_codes), SORTED_QUERIES), "Ranks of relevant items"):
        stop = min(start + SORTED_QUERIES, len(query_codes))
        block = select_queries(relevance, start, stop)
        of_block = distance
        if isinstance(distance, Asymmetric):
            of_block = replace(distance, weights=distance.weights[start:stop])
        offsets, ranks = ranking.relevant_ranks(query_codes[start:stop], database_codes, of_block, block)
        blocks.append(torch.stack(list(stable_order_metrics(offsets, ranks, at).values()), 1))
    return torch.cat(blocks)


def list_stable_order_names(at: tuple[int, ...]) -> list[str]:
    """Return the names of the scores of a stable sort."""
    offsets, ranks = torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    return list(stable_order_metrics(offsets, ranks, at))
