"""The contract of a threshold search."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.quantizers.neighbourhood_objective import NeighbourhoodObjective


class ThresholdSearch(PlainArguments, nn.Module, ABC):
    """Chooses the cuts of one dimension that a `NeighbourhoodObjective` rates highest.

    A module without weights, so that it is saved with the quantiser that holds it.
    """

    def best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        """The best cuts found; no region between them is empty.

        Args:
            objective: of the dimension.
            count: number of cuts T, from 1.
            generator: CPU generator of every random draw.

        Returns:
            int64 (T,), ascending; all the cuts there are where they are no more than T.
        """
        if objective.cuts <= count:
            return torch.arange(1, objective.cuts + 1)
        return self._best_cuts(objective, count, generator)

    @abstractmethod
    def _best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        """As `best_cuts`, where there are more than `count` cuts to choose from."""
