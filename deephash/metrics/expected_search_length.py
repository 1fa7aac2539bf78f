"""Irrelevant items before the n-th relevant one, tie-aware (Cooper, American Documentation 1968)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments, convert_numpy_numbers
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.user_metric import UserMetric
from deephash.validation import check_count


@convert_numpy_numbers
def expected_search_length(ranking: GradedRanking, wanted: int = 1) -> Tensor:
    """Compute the expected number of irrelevant items before the n-th relevant one.

    All irrelevant items of earlier groups count. The group of the n-th relevant item has i irrelevant and r relevant
    items. If s of its relevant items are still wanted, i·s/(r + 1) of its irrelevant ones come first on average over
    the orders (Cooper 1968).

    Args:
        ranking: ranking of q queries.
        wanted: n, at least 1.

    Returns:
        float64 (q,); NaN if a query has fewer than n relevant items.

    Raises:
        InvalidInputError: n below 1.
    """
    check_count(wanted, "wanted")
    found = ranking.found
    group = (found < wanted).sum(1, keepdim=True).clamp_max(found.shape[1] - 1)
    fields = (ranking.total, ranking.relevant, ranking.before, found)
    total, relevant, before, found_here = (field.gather(1, group)[:, 0] for field in fields)
    found_before = found_here - relevant
    values = before - found_before + (total - relevant) * (wanted - found_before) / (relevant + 1)
    return values.masked_fill(found[:, -1] < wanted, torch.nan)


@convert_numpy_arguments
@dataclass(frozen=True)
class ExpectedSearchLength(UserMetric):
    """Expected search length among the figures of a run; lower is better.

    Args:
        wanted: numbers n of relevant items that the user wants.

    Raises:
        InvalidInputError: an n below 1.
    """

    graded: ClassVar[bool] = False

    wanted: Sequence[int] = (1,)

    def __post_init__(self) -> None:
        for n in self.wanted:
            check_count(n, "wanted")

    def values(self, ranking: GradedRanking, mark: str = "") -> dict[str, Tensor]:
        """Return the number of irrelevant items before the n-th relevant one, for each query."""
        return {f"search_length{mark}@{n}": expected_search_length(ranking, n) for n in self.wanted}
