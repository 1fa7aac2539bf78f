"""A few codes are re-encoded at every step, the oldest first."""

from typing import final

from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import check_count


@final
class Budget(Reencoding):
    """No more than so many codes a step: a cost that is known beforehand, at the price of codes of many ages.

    Args:
        items: codes a step at most.

    Raises:
        InvalidInputError: items below 1.
    """

    def __init__(self, items: int = 20) -> None:
        check_count(items, "reencoding.items")
        self.items = items

    def due(self, staleness: Staleness) -> Tensor:
        """The oldest of the stale ones."""
        return staleness.stale()[: self.items]
