"""Base class of allocations of bits to projections."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deephash.conversion import PlainArguments


@dataclass(frozen=True)
class BitOptions:
    """The effect of 0, 1, ..., Q bits for each of k projections, on m training items.

    Args:
        worth: float64 (k, Q + 1), F1 of each number of bits, for each projection independently.
        regions: int16 (m, k, Q + 1), the region of each item; 0 with 0 bits.
        neighbours: bool (m, m), symmetric, with an empty diagonal.
    """

    worth: Tensor
    regions: Tensor
    neighbours: Tensor


class BitAllocation(PlainArguments, nn.Module, ABC):
    """Choice of the number of bits of each projection, which spends the whole budget.

    It is a module without weights, so that it is saved with the quantiser that contains it.
    """

    @abstractmethod
    def allocate(self, options: BitOptions, budget: int, generator: torch.Generator) -> Tensor:
        """Choose the number of bits of each projection.

        Args:
            options: effect of each number of bits.
            budget: bits to spend, from 0 to k·Q.
            generator: CPU generator of every random draw.

        Returns:
            int64 (k,), numbers from 0 to Q that sum to `budget`.
        """
