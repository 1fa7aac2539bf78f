"""Re-encoding of all stale codes at fixed intervals."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import check_count


@final
class Every(Reencoding):
    """Policy that re-encodes all stale codes after a fixed number of arriving items.

    Args:
        items: number of items between updates; 1 updates at every step.

    Raises:
        InvalidInputError: items is below 1.
    """

    def __init__(self, items: int = 1000) -> None:
        check_count(items, "reencoding.items")
        self.items = items

    def due(self, staleness: Staleness) -> Tensor:
        """Return all stale codes if the interval has passed."""
        return staleness.stale() if staleness.items_since_update >= self.items else torch.empty(0, dtype=torch.int64)
