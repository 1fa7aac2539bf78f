"""All stale codes are re-encoded at fixed intervals."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import check_count


@final
class Every(Reencoding):
    """All stale codes whenever so many items have arrived since the last time.

    Args:
        items: from one time to the next; 1 for every step.

    Raises:
        InvalidInputError: items below 1.
    """

    def __init__(self, items: int = 1000) -> None:
        check_count(items, "reencoding.items")
        self.items = items

    def due(self, staleness: Staleness) -> Tensor:
        """All that are stale, or none."""
        return staleness.stale() if staleness.items_since_update >= self.items else torch.empty(0, dtype=torch.int64)
