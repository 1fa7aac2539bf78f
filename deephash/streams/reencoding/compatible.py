"""Re-encoding policy that keeps old codes and maps queries into the spaces of their versions."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import InvalidInputError, check_count


def fit_map(new: Tensor, old: Tensor, ridge: float = 1e-3) -> Tensor:
    """Fit an affine map from new projections to old ones by ridge regression.

    Args:
        new: new projections, floating (n, k).
        old: old projections of the same items, floating (n, k).
        ridge: weight of the squared coefficients, in units of the new projections' mean square.

    Returns:
        float64 (k + 1, k), with the offset in the last row.
    """
    x = torch.cat([new.double(), torch.ones(len(new), 1, dtype=torch.float64)], 1)
    gram = x.T @ x
    gram.diagonal()[:-1] += ridge * gram.diagonal()[:-1].mean().clamp_min(torch.finfo(torch.float64).tiny)
    solution: Tensor = torch.linalg.solve(gram, x.T @ old.double())
    return solution


def map_projections(projections: Tensor, map_to_old: Tensor) -> Tensor:
    """Map projections into the space of an older version.

    Args:
        projections: floating (n, k).
        map_to_old: (k + 1, k), as returned by `fit_map`.

    Returns:
        (n, k), in the projections' dtype.
    """
    return (projections.double() @ map_to_old[:-1] + map_to_old[-1]).to(projections.dtype)


def chain_maps(map_to_old: Tensor, map_to_older: Tensor) -> Tensor:
    """Return the composition of two maps, (k + 1, k)."""
    chain = map_to_old @ map_to_older[:-1]
    chain[-1] += map_to_older[-1]
    return chain


@final
class Compatible(Reencoding):
    """Policy that adds a version at intervals, and keeps codes of recent versions searchable through learnt maps.

    Between updates, the last version encodes new items and queries. At an update, an affine map from the projections of
    the new version to those of the previous one is learnt from stored items. A query is projected once and mapped into
    the space of each version, and the results are counted together. Only codes of the oldest version are re-encoded,
    when there are more versions than `kept`.

    Args:
        items: number of items between updates.
        kept: number of versions whose codes stay.

    Raises:
        InvalidInputError: items is below 1, or kept is below 2.
    """

    maps_queries: ClassVar[bool] = True

    def __init__(self, items: int = 1000, kept: int = 4) -> None:
        check_count(items, "reencoding.items")
        check_count(kept, "reencoding.kept")
        if kept < 2:
            raise InvalidInputError(f"reencoding.kept={kept}; expected at least 2; for 1, choose reencoding=every.")
        self.items = items
        self.kept = kept

    def publishes(self, items: int) -> bool:
        """Return whether the interval has passed."""
        return items >= self.items

    def due(self, staleness: Staleness) -> Tensor:
        """Return codes of versions beyond `kept`."""
        versions = staleness.code_versions
        return torch.nonzero((versions > 0) & (versions <= staleness.current_version - self.kept)).flatten()
