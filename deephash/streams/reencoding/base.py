"""The contract of a policy of re-encoding."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from deephash.conversion import PlainArguments


@dataclass(frozen=True)
class Staleness:
    """What a policy may know after a step of the stream.

    Args:
        code_versions: int64 (n,), for each code, the version of the hash function that produced it.
        current_version: version of the current hash function; codes of lower versions may be stale.
        seen: items that have arrived.
        items_since_update: of them, those since codes were last re-encoded.
        precisions: float64 (m,), of the nearest neighbours that each arriving item found before it was learnt from: the
            signal that changes when the world does. Empty where nothing was searched.
    """

    code_versions: Tensor
    current_version: int
    seen: int
    items_since_update: int
    precisions: Tensor

    def stale(self) -> Tensor:
        """Places of codes that an earlier function made, int64, the oldest first."""
        places = torch.nonzero(self.code_versions < self.current_version).flatten()
        return places[self.code_versions[places].argsort(stable=True)]


class Reencoding(PlainArguments, ABC):
    """Decides after each step of a stream which codes are re-encoded."""

    maps_queries: ClassVar[bool] = False
    """Whether queries are mapped into the spaces of older codes; else they are encoded by the present function alone,
    whatever made the codes that they are compared with."""

    @abstractmethod
    def due(self, staleness: Staleness) -> Tensor:
        """Places of the codes to re-encode now, int64."""

    def publishes(self, items: int) -> bool:
        """Whether what has been learnt is put to use now: items and queries are encoded by it from here on.

        Args:
            items: that have arrived since the last time.
        """
        return True

    def state(self) -> dict[str, Any]:
        """What it remembers, in tensors, numbers and lists, so that a killed stream goes on as it would have."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        assert not state
