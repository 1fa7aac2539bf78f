"""Checks of the inputs of metrics, each with its error message."""

from typing import Any

import torch
from torch import Tensor

from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError, check_count, check_whole


def check_counts(counts: DistanceCounts) -> None:
    """Raise an error for counts that cannot be two histograms of the same rankings.

    Raises:
        InvalidInputError: wrong dtype or shape, a negative count, or more relevant items than items.
    """
    total, relevant = counts.total, counts.relevant
    if total.dtype != torch.int64 or relevant.dtype != torch.int64:
        raise InvalidInputError(
            f"counts have dtypes {total.dtype} and {relevant.dtype}; expected torch.int64 for both."
        )
    if total.ndim != 2 or total.shape != relevant.shape or total.shape[1] == 0:
        raise InvalidInputError(
            f"counts have shapes {tuple(total.shape)} and {tuple(relevant.shape)}; expected (q, D + 1) for both."
        )
    if bool((relevant < 0).any()):
        raise InvalidInputError(f"relevant counts hold {int(relevant.min())}; a count is at least 0.")
    bad = torch.nonzero(relevant > total)
    if len(bad):
        query, distance = bad[0].tolist()
        raise InvalidInputError(
            f"row {query} counts {int(relevant[query, distance])} relevant items among {int(total[query, distance])} "
            f"at distance {distance}; relevant items are part of the total: count both over one database."
        )


def check_query_ids(query_ids: Any, queries: int) -> None:
    """Raise an error unless the ids of queries are an int64 tensor (q,).

    Raises:
        InvalidInputError: another type, dtype or shape.
    """
    if not isinstance(query_ids, Tensor):
        raise InvalidInputError(
            f"query_ids are a {type(query_ids).__name__}; expected a torch.Tensor int64 ({queries},), one id per query."
        )
    if query_ids.dtype != torch.int64 or query_ids.shape != (queries,):
        raise InvalidInputError(
            f"query_ids have shape {tuple(query_ids.shape)} and dtype {query_ids.dtype}; expected int64 "
            f"({queries},), one id per query."
        )


def check_cutoff(k: int, items: int | None = None) -> None:
    """Raise an error for a cutoff that is not an integer from 1 to the number of ranked items.

    Args:
        k: rank of the cutoff.
        items: number of database items N; None if unknown.

    Raises:
        InvalidInputError: k is out of range.
    """
    check_count(k, "k")
    if items is not None and k > items:
        raise InvalidInputError(f"k={k} exceeds the {items} items that are ranked; lower k.")


def check_radius(radius: int, maximum: int) -> None:
    """Raise an error for a radius that is not an integer from 0 to the largest distance.

    Raises:
        InvalidInputError: the radius is out of range.
    """
    check_whole(radius, 0, "radius")
    if radius > maximum:
        raise InvalidInputError(f"radius={radius} exceeds {maximum}, the largest distance of these codes; lower it.")


def count_ranked_items(counts: DistanceCounts) -> int | None:
    """Return the smallest number of items N that any query ranks; None without queries."""
    return int(counts.total.sum(1).min()) if len(counts.total) else None


def nan_without_relevant(values: Tensor, counts: DistanceCounts) -> Tensor:
    """Set the values (q,) of queries without a relevant item, whose rankings are all equally good, to NaN."""
    return values.masked_fill(counts.relevant.sum(1) == 0, torch.nan)
