"""Old codes stay, and new queries are mapped into the spaces that they were made in."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import InvalidInputError, check_count


def projection_map(new: Tensor, old: Tensor, ridge: float = 1e-3) -> Tensor:
    """The affine map from new projections to old ones, by ridge regression over items that have both.

    Args:
        new: floating (n, k).
        old: floating (n, k).
        ridge: on the squared coefficients, in units of the new projections' mean square.

    Returns:
        float64 (k + 1, k), the last row being the offset.
    """
    x = torch.cat([new.double(), torch.ones(len(new), 1, dtype=torch.float64)], 1)
    gram = x.T @ x
    gram.diagonal()[:-1] += ridge * gram.diagonal()[:-1].mean().clamp_min(torch.finfo(torch.float64).tiny)
    solution: Tensor = torch.linalg.solve(gram, x.T @ old.double())
    return solution


def mapped(projections: Tensor, map_to_old: Tensor) -> Tensor:
    """Projections as an older function would have given them.

    Args:
        projections: floating (n, k).
        map_to_old: (k + 1, k).

    Returns:
        (n, k), in the projections' dtype.
    """
    return (projections.double() @ map_to_old[:-1] + map_to_old[-1]).to(projections.dtype)


def chained(map_to_old: Tensor, map_to_older: Tensor) -> Tensor:
    """The map that does one after the other: (k + 1, k)."""
    chain = map_to_old @ map_to_older[:-1]
    chain[-1] += map_to_older[-1]
    return chain


@final
class Compatible(Reencoding):
    """A new function is put to use at intervals alone; codes of the last few stay searchable, by a learnt map.

    Between two times new items and queries are encoded by the function last put to use, whatever has been learnt since.
    When a new one is, an affine map from its projections to the one before is learnt from stored items. A query is
    projected once and mapped into each of the spaces that codes lie in; what it finds there is counted together. Only
    codes of the oldest function are re-encoded, when there would be more functions than `kept`.

    Args:
        items: from one function put to use to the next.
        kept: functions whose codes stay.

    Raises:
        InvalidInputError: items below 1, or kept below 2.
    """

    maps_queries: ClassVar[bool] = True

    def __init__(self, items: int = 1000, kept: int = 4) -> None:
        check_count(items, "reencoding.items")
        check_count(kept, "reencoding.kept")
        if kept < 2:
            raise InvalidInputError(f"reencoding.kept={kept}; expected at least 2: with one, choose reencoding=every.")
        self.items = items
        self.kept = kept

    def publishes(self, items: int) -> bool:
        """At intervals alone."""
        return items >= self.items

    def due(self, staleness: Staleness) -> Tensor:
        """Codes of functions that are too many."""
        return torch.nonzero(staleness.code_versions <= staleness.current_version - self.kept).flatten()
