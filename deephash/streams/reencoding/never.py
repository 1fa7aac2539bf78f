"""Codes stay as they were made."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness


@final
class Never(Reencoding):
    """No item is ever encoded again: what a moving projection costs where nothing is done about it."""

    def due(self, staleness: Staleness) -> Tensor:
        """None."""
        return torch.empty(0, dtype=torch.int64)
