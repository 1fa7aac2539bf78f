"""All retrieval figures of a hashing method, accumulated over batches and processes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from deephash.conversion import convert_numpy_numbers, to_plain_number
from deephash.metrics import average_precision, precision_recall, tie_bounds
from deephash.metrics.checks import check_counts, check_cutoff, check_query_ids, check_radius, count_ranked_items
from deephash.metrics.pr_curve import (
    PrecisionRecallCurve,
    auprc,
    auprc_micro,
    auprc_micro_without_start,
    pr_curve_macro,
    pr_curve_micro,
)
from deephash.metrics.user_metric import GRADED, UserMetric, compute_user_figures
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.graded_counts import GradedCounts
from deephash.validation import InvalidInputError, check_count


def per_query_metrics(counts: DistanceCounts, at: Sequence[int], radii: Sequence[int]) -> dict[str, Tensor]:
    """Compute every metric that is defined for a single query, keyed by the name of its mean over queries.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        at: depths k of the metrics at k.
        radii: radii r of the metrics within r.

    Returns:
        float64 (q,) each, NaN if a query has no relevant item.
    """
    values = {
        "mAP": average_precision.average_precision(counts),
        "mAP_best": tie_bounds.best_average_precision(counts),
        "mAP_worst": tie_bounds.worst_average_precision(counts),
        "AUPRC_macro": auprc(counts),
    }
    for k in at:
        values |= {
            f"mAP@{k}": average_precision.average_precision_at(counts, k),
            f"mAP_best@{k}": tie_bounds.best_average_precision_at(counts, k),
            f"mAP_worst@{k}": tie_bounds.worst_average_precision_at(counts, k),
            f"mAP@{k}/hits": average_precision.average_precision_at_over_hits(counts, k),
            f"mAP_best@{k}/hits": tie_bounds.best_average_precision_at_over_hits(counts, k),
            f"mAP_worst@{k}/hits": tie_bounds.worst_average_precision_at_over_hits(counts, k),
            f"mAP@{k}/relevant": average_precision.average_precision_at_over_relevant(counts, k),
            f"precision@{k}": precision_recall.precision_at(counts, k),
            f"recall@{k}": precision_recall.recall_at(counts, k),
            f"F1@{k}": precision_recall.f1_at(counts, k),
        }
    for radius in radii:
        values |= {
            f"precision@r{radius}": precision_recall.precision_within(counts, radius),
            f"recall@r{radius}": precision_recall.recall_within(counts, radius),
            f"F1@r{radius}": precision_recall.f1_within(counts, radius),
        }
    return values


class HammingRetrieval(Metric):
    """Retrieval figures over a set of queries, from their distance counts.

    Figures are means over the queries that have a relevant item; "skipped_queries" is the number of the others. Only
    AUPRC_micro pools all pairs, including the wrong pairs of skipped queries. With k from `at` and r from `radii`:

    - mAP: tie-aware AP of the whole ranking.
    - AUPRC_macro: area under each query's precision-recall curve; AUPRC_micro: area under the curve of all pairs.
    - AUPRC_micro/published: the area as the code published with NPQ and GRH integrates it.
    - mAP@k: AP of the first k ranks, divided by min(k, relevant items); it can reach 1 and never rewards a miss;
      mAP@k/hits divides by the relevant items among the first k, as most deep hashing code does;
      mAP@k/relevant divides by all relevant items, as TREC does.
    - mAP_best, mAP_worst (and @k, @k/hits): the values of the best and the worst order of tied items.
    - precision@k, recall@k, F1@k: of the first k ranks; precision@r2, recall@r2, F1@r2: within distance r = 2.
    - figures of `user_metrics`, such as nDCG@10; if relevance has grades, metrics that distinguish them are also
      computed with grades, such as nDCG_graded@10.

    A query counts once, even if a sampler repeats it to balance processes. Means are exact sums rounded once, so that
    they do not depend on batches, processes or threads.

    Args:
        maximum_distance: largest distance D of the codes, `Distance.maximum`.
        at: cutoffs k; none by default, since k must fit the database.
        radii: distances r of balls; none by default, since r must fit the codes.
        user_metrics: metrics of user models; none by default, since their depths must fit the database.
        highest_grade: highest grade of relevance of any query of any process; 1 without grades.
        kwargs: arguments of torchmetrics, such as `process_group`.

    Raises:
        InvalidInputError: a k or a highest grade below 1, or a radius below 0 or above D.

    Examples:
        >>> counts = DistanceCounts(torch.tensor([[1, 1, 2]]), torch.tensor([[0, 1, 1]]))
        >>> metric = HammingRetrieval(maximum_distance=2, radii=[1])
        >>> metric.update(counts, query_ids=torch.tensor([0]))
        >>> round(float(metric.compute()["mAP"]), 4), float(metric.compute()["precision@r1"])
        (0.5417, 0.5)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: list[Tensor] | Tensor
    relevant: list[Tensor] | Tensor
    query_ids: list[Tensor] | Tensor
    by_grade: list[Tensor] | Tensor

    @convert_numpy_numbers
    def __init__(
        self,
        maximum_distance: int,
        at: Sequence[int] = (),
        radii: Sequence[int] = (),
        user_metrics: Sequence[UserMetric] = (),
        highest_grade: int = 1,
        **kwargs: Any,
    ) -> None:
        for k in at:
            check_cutoff(k)
        for radius in radii:
            check_radius(radius, maximum_distance)
        check_count(highest_grade, "highest_grade")
        super().__init__(**kwargs)
        self.maximum_distance = maximum_distance
        self.at = to_plain_number(tuple(at))
        self.radii = to_plain_number(tuple(radii))
        self.user_metrics = tuple(user_metrics)
        self.highest_grade = highest_grade
        for state in self._empty_shapes():
            self.add_state(state, default=[], dist_reduce_fx="cat")

    @property
    def takes_grades(self) -> bool:
        """Whether there are grades and a metric that distinguishes them."""
        return self.highest_grade > 1 and any(metric.graded for metric in self.user_metrics)

    def update(self, counts: DistanceCounts, query_ids: Tensor, graded: GradedCounts | None = None) -> None:
        """Add a batch of queries.

        Args:
            counts: items and relevant items at each distance, int64 (q, D + 1); q may be 0.
            query_ids: int64 (q,), one number per query, the same in every process and batch.
            graded: counts of the same items by grade, 0 to the highest; for metrics that use grades.

        Raises:
            InvalidInputError: counts of another D or invalid counts, ids that are not one per query, a k above N, or
                grades that are missing or do not match the counts.
        """
        check_counts(counts)
        if counts.total.shape[1] != self.maximum_distance + 1:
            raise InvalidInputError(
                f"counts reach to distance {counts.total.shape[1] - 1}; expected {self.maximum_distance}, the largest "
                "distance that this metric was built for."
            )
        check_query_ids(query_ids, len(counts.total))
        for k in (*self.at, *(metric.depth for metric in self.user_metrics)):
            check_cutoff(k, count_ranked_items(counts))
        batch = {"total": counts.total, "relevant": counts.relevant, "query_ids": query_ids}
        if self.takes_grades:
            batch["by_grade"] = self._check_grades(graded, counts)
        for state, values in batch.items():
            getattr(self, state).append(values)

    def _check_grades(self, graded: GradedCounts | None, counts: DistanceCounts) -> Tensor:
        """Return the counts by grade, (q, D + 1, G + 1), if they add up to those without grades."""
        if graded is None or graded.highest != self.highest_grade:
            actual = "none" if graded is None else f"grades up to {graded.highest}"
            raise InvalidInputError(f"graded counts are {actual}; expected grades up to {self.highest_grade}.")
        plain = graded.at_least(1)
        if not (torch.equal(plain.total, counts.total) and torch.equal(plain.relevant, counts.relevant)):
            raise InvalidInputError("graded counts do not add up to the counts; pass both for one ranking.")
        return graded.by_grade

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the queries of all processes, including those that have none."""
        # For a process without a batch torchmetrics sends an empty float vector, which does not fit int64 (q, D + 1).
        for state, shape in self._empty_shapes().items():
            if isinstance(getattr(self, state), list) and not getattr(self, state):
                setattr(self, state, [torch.zeros(shape, dtype=torch.int64, device=self.device)])
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """Compute the figures over all queries of all processes, by name.

        Returns:
            float64 () each, "skipped_queries" int64 (); NaN if no query has a relevant item.

        Raises:
            InvalidInputError: no queries, or one id with two different counts.
        """
        counts, graded, _ = self._merge_queries()
        figures = {name: exact_mean(values) for name, values in self._figures(counts, graded).items()}
        figures["AUPRC_micro"] = auprc_micro(counts)
        figures["AUPRC_micro/published"] = auprc_micro_without_start(counts)
        figures["skipped_queries"] = (counts.relevant.sum(1) == 0).sum()
        return figures

    def per_query(self) -> dict[str, Tensor]:
        """Compute the figures of each query, in the order of their ids; all processes must call this together.

        Returns:
            (q,) each: "query", the id, and "relevant", the number of relevant items, int64; every metric of
            `per_query_metrics` and of `user_metrics`, float64.

        Raises:
            InvalidInputError: as `compute`.
        """
        with self._gather():
            counts, graded, ids = self._merge_queries()
        columns = {"query": ids, "relevant": counts.relevant.sum(1)}
        return columns | self._figures(counts, graded)

    def pr_curve(self) -> dict[str, PrecisionRecallCurve]:
        """Compute the precision-recall curves by radius, "micro" and "macro"; all processes must call this together.

        Raises:
            InvalidInputError: as `compute`.
        """
        with self._gather():
            counts, _, _ = self._merge_queries()
        return {"micro": pr_curve_micro(counts), "macro": pr_curve_macro(counts)}

    def _figures(self, counts: DistanceCounts, graded: GradedCounts | None) -> dict[str, Tensor]:
        """Compute every metric of each query."""
        values = per_query_metrics(counts, self.at, self.radii)
        values |= compute_user_figures(self.user_metrics, GradedCounts.from_counts(counts))
        if graded is not None:
            graded_metrics = [metric for metric in self.user_metrics if metric.graded]
            values |= compute_user_figures(graded_metrics, graded, GRADED)
        return values

    def _gather(self) -> Any:
        """Return a context in which the states contain the queries of all processes, as within `compute`."""
        return self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=not self._is_synced)

    def _empty_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each state without queries."""
        counts = (0, self.maximum_distance + 1)
        shapes: dict[str, tuple[int, ...]] = {"total": counts, "relevant": counts, "query_ids": (0,)}
        return shapes | ({"by_grade": (*counts, self.highest_grade + 1)} if self.takes_grades else {})

    def _merge_queries(self) -> tuple[DistanceCounts, GradedCounts | None, Tensor]:
        """Return the counts, the counts by grade (None without grades) and the ids: each query once, by id."""
        gathered = {state: getattr(self, state) for state in self._empty_shapes()}
        states = {name: dim_zero_cat(state) if len(state) else torch.zeros(0) for name, state in gathered.items()}
        total, relevant, ids = states["total"], states["relevant"], states["query_ids"]
        if len(ids) == 0:
            raise InvalidInputError("no query was added; call update before compute.")
        ids, order = torch.sort(ids, stable=True)
        total, relevant = total[order], relevant[order]
        by_grade = states["by_grade"][order] if self.takes_grades else None
        first = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        first[1:] = ids[1:] != ids[:-1]
        again = torch.nonzero(~first).flatten()
        same = (total[again] == total[again - 1]).all(1) & (relevant[again] == relevant[again - 1]).all(1)
        if by_grade is not None:
            same &= (by_grade[again] == by_grade[again - 1]).flatten(1).all(1)
        if not bool(same.all()):
            raise InvalidInputError(
                f"query {int(ids[again[~same][0]])} came twice with different counts; give each query its own id."
            )
        if len(again):
            total, relevant, ids = total[first], relevant[first], ids[first]
            by_grade = None if by_grade is None else by_grade[first]
        return DistanceCounts(total, relevant), None if by_grade is None else GradedCounts(by_grade), ids


def exact_mean(values: Tensor) -> Tensor:
    """Compute the mean of the values that are not NaN, float64 (): their exact sum, rounded once."""
    valid = values[~values.isnan()]
    mean = math.fsum(valid.tolist()) / len(valid) if len(valid) else math.nan
    return torch.tensor(mean, dtype=torch.float64, device=values.device)
