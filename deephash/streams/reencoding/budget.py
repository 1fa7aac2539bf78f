"""Re-encoding of a few codes at every step, oldest first."""

from typing import final

from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import check_count


@final
class Budget(Reencoding):
    """Policy that re-encodes a fixed number of codes per step.

    The cost is known in advance, but codes of many versions coexist.

    Args:
        items: maximum number of codes per step.

    Raises:
        InvalidInputError: items is below 1.
    """

    def __init__(self, items: int = 20) -> None:
        check_count(items, "reencoding.items")
        self.items = items

    def due(self, staleness: Staleness) -> Tensor:
        """Return the oldest stale codes."""
        return staleness.stale()[: self.items]
