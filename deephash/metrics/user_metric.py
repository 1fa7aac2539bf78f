"""The contract of a metric of user models among a run's figures: what the user of a ranked list gets from it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.query_blocks import block_rows, used_columns
from deephash.ranking.graded_counts import GradedCounts

# What ends the name of a figure that tells grades of relevance apart.
GRADED = "_graded"
# How the names of figures begin of which less is better.
COSTS = ("search_length", "scanning_seconds")


class UserMetric(ABC):
    """Figures of each query by one model of a user, exact in expectation over the orders of tied items."""

    graded: ClassVar[bool] = True
    """Whether the figures tell grades of relevance apart, or relevant items from others alone."""

    @property
    def depth(self) -> int:
        """The deepest rank that is asked for, which the database must have; 1 where there is no cut."""
        return 1

    @abstractmethod
    def values(self, ranking: GradedRanking, mark: str = "") -> dict[str, Tensor]:
        """The figures of q queries by name.

        Args:
            ranking: of q queries.
            mark: what the name of a figure ends in, before its depth.

        Returns:
            float64 (q,) each, NaN where a query has no figure.
        """


def user_figures(metrics: Sequence[UserMetric], counts: GradedCounts, mark: str = "") -> dict[str, Tensor]:
    """Figures of several metrics, which share each block of queries' groups.

    Args:
        metrics: with distinct names of figures.
        counts: items of each grade at each distance, (q, D + 1, G + 1).
        mark: as `UserMetric.values` takes it.

    Returns:
        float64 (q,) each.
    """
    if not metrics:
        return {}
    found: list[dict[str, Tensor]] = []
    for block in _blocks(counts, max(metric.depth for metric in metrics)):
        ranking = GradedRanking(block)
        values: dict[str, Tensor] = {}
        for metric in metrics:
            values |= metric.values(ranking, mark)
        found.append(values)
    return {name: torch.cat([values[name] for values in found]) for name in found[0]}


def figures_to_raise(names: Iterable[str]) -> list[str]:
    """The figures of which more is better, by which settings may be chosen; of two views a direction comes first."""
    return [name for name in names if not name.rpartition("/")[2].startswith(COSTS)]


def _blocks(counts: GradedCounts, depth: int) -> Iterator[GradedCounts]:
    """The counts at used distances, a block of queries at a time; one empty block where there is no query."""
    by_grade = counts.by_grade[:, used_columns(counts.total)]
    rows = block_rows(by_grade.device, max(by_grade.shape[1], depth))
    for start in range(0, max(1, len(by_grade)), rows):
        yield GradedCounts(by_grade[start : start + rows])
