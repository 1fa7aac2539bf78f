"""Base class of metrics by a model of a user: the benefit of a ranked list for the user who reads it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deephash.metrics.checks import check_cutoff
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.query_blocks import block_rows, find_used_columns
from deephash.ranking.graded_counts import GradedCounts

# Suffix of the names of figures that distinguish grades of relevance.
GRADED = "_graded"
# Prefixes of the names of figures for which lower is better.
COSTS = ("search_length", "scanning_seconds")


class UserMetric(ABC):
    """Figures of each query by one model of a user, exact in expectation over the orders of tied items."""

    graded: ClassVar[bool] = True
    """Whether the figures distinguish grades of relevance, and not only relevant items from others."""

    @property
    def depth(self) -> int:
        """The deepest rank used, which the database must have; 1 without a cutoff."""
        return 1

    @abstractmethod
    def values(self, ranking: GradedRanking, mark: str = "") -> dict[str, Tensor]:
        """Compute the figures of q queries by name.

        Args:
            ranking: ranking of q queries.
            mark: suffix of the name of a figure, before its depth.

        Returns:
            float64 (q,) each, NaN if a query has no figure.
        """


@dataclass(frozen=True)
class DepthMetric(UserMetric):
    """A metric of the first k ranks, at several depths k. Subclasses implement `value` and set `label`.

    Args:
        at: depths k.

    Raises:
        InvalidInputError: a k below 1.
    """

    label: ClassVar[str]
    """Name of the figures, before their depth."""

    at: Sequence[int] = ()

    def __post_init__(self) -> None:
        for k in self.at:
            check_cutoff(k)

    @property
    def depth(self) -> int:
        """The largest k."""
        return max(self.at, default=1)

    @abstractmethod
    def value(self, ranking: GradedRanking, k: int) -> Tensor:
        """Return the metric at depth k, float64 (q,)."""

    def values(self, ranking: GradedRanking, mark: str = "") -> dict[str, Tensor]:
        """Return the metric of each query at each depth, by name."""
        return {f"{self.label}{mark}@{k}": self.value(ranking, k) for k in self.at}


def compute_user_figures(metrics: Sequence[UserMetric], counts: GradedCounts, mark: str = "") -> dict[str, Tensor]:
    """Compute the figures of several metrics in blocks of queries.

    Args:
        metrics: metrics whose figures have distinct names.
        counts: items of each grade at each distance, (q, D + 1, G + 1).
        mark: see `UserMetric.values`.

    Returns:
        float64 (q,) each.
    """
    if not metrics:
        return {}
    blocks: list[dict[str, Tensor]] = []
    for block in _query_blocks(counts, max(metric.depth for metric in metrics)):
        ranking = GradedRanking(block)
        blocks.append({name: figure for metric in metrics for name, figure in metric.values(ranking, mark).items()})
    return {name: torch.cat([figures[name] for figures in blocks]) for name in blocks[0]}


def find_maximised_figures(names: Iterable[str]) -> list[str]:
    """Return the names of the figures for which higher is better, by which settings may be chosen.

    The name of a figure between two views begins with a direction and "/".
    """
    return [name for name in names if not name.rpartition("/")[2].startswith(COSTS)]


def _query_blocks(counts: GradedCounts, depth: int) -> Iterator[GradedCounts]:
    """Yield the counts at used distances in blocks of queries; one empty block if there are no queries."""
    by_grade = counts.by_grade[:, find_used_columns(counts.total)]
    rows = block_rows(by_grade.device, max(by_grade.shape[1], depth))
    for start in range(0, max(1, len(by_grade)), rows):
        yield GradedCounts(by_grade[start : start + rows])
