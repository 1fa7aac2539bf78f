"""Base class of re-encoding policies."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from deephash.conversion import PlainArguments


@dataclass(frozen=True)
class Staleness:
    """The state of a stream after a step, as a policy sees it.

    Args:
        code_versions: int64 (n,), for each code, the version of the hash function that produced it; 0 for items
            without a code.
        current_version: version of the current hash function; codes of lower versions may be stale.
        seen: number of items that have arrived.
        items_since_update: number of items that have arrived since codes were last re-encoded.
        precisions: float64 (m,), precision of the nearest neighbours of each arriving item before the method learnt
            from it, a signal of drift. Empty if nothing was searched.
    """

    code_versions: Tensor
    current_version: int
    seen: int
    items_since_update: int
    precisions: Tensor

    def stale(self) -> Tensor:
        """Return places of codes of earlier versions, int64, oldest first."""
        versions = self.code_versions
        places = torch.nonzero((versions > 0) & (versions < self.current_version)).flatten()
        return places[self.code_versions[places].argsort(stable=True)]


class Reencoding(PlainArguments, ABC):
    """A policy that decides after each step of a stream which codes are re-encoded."""

    maps_queries: ClassVar[bool] = False
    """Whether queries are mapped into the spaces of older codes. Otherwise the current version encodes them, also for
    comparison with older codes."""

    @abstractmethod
    def due(self, staleness: Staleness) -> Tensor:
        """Return places of the codes to re-encode now, int64."""

    def publishes(self, items: int) -> bool:
        """Return whether the learnt hasher becomes the current one, which encodes items and queries from now on.

        Args:
            items: number of items that have arrived since a hasher last became the current one.
        """
        return True

    def state(self) -> dict[str, Any]:
        """Return the memory of the policy as tensors, numbers and lists, so that a killed stream can resume."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the memory returned by `state`."""
        assert not state
