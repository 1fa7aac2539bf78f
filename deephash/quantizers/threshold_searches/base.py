"""Base class of threshold searches."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.quantizers.neighbourhood_objective import NeighbourhoodObjective


class ThresholdSearch(PlainArguments, nn.Module, ABC):
    """Search method for the cuts of one projection that maximise a `NeighbourhoodObjective`.

    It is a module without weights, so that it is saved with the quantiser that contains it.
    """

    def best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        """Search for the best cuts; every region contains at least one training item.

        Args:
            objective: objective of the projection.
            count: number of cuts T, at least 1.
            generator: CPU generator of every random draw.

        Returns:
            int64 (T,), ascending; all possible cuts if there are at most T.
        """
        if objective.cuts <= count:
            return torch.arange(1, objective.cuts + 1)
        return self._best_cuts(objective, count, generator)

    @abstractmethod
    def _best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        """Implement `best_cuts` if more than `count` cuts are possible."""
