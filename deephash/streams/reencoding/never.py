"""No re-encoding."""

from typing import final

import torch
from torch import Tensor

from deephash.streams.reencoding.base import Reencoding, Staleness


@final
class Never(Reencoding):
    """Policy that never re-encodes codes: a baseline that shows the cost of a changing projection."""

    def due(self, staleness: Staleness) -> Tensor:
        """Return no codes."""
        return torch.empty(0, dtype=torch.int64)
