"""The contract of an allocation of bits to dimensions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deephash.conversion import PlainArguments


@dataclass(frozen=True)
class BitOptions:
    """What 0, 1, ..., Q bits would do to each of k dimensions, on m training items.

    Args:
        worth: float64 (k, Q + 1), F1 of each number of bits, the dimension by itself.
        regions: int16 (m, k, Q + 1), the region that each item is in; 0 with 0 bits.
        neighbours: bool (m, m), symmetric, without an item itself.
    """

    worth: Tensor
    regions: Tensor
    neighbours: Tensor


class BitAllocation(PlainArguments, nn.Module, ABC):
    """Chooses the bits of each dimension under a budget, which it spends to the last bit.

    A module without weights, so that it is saved with the quantiser that holds it.
    """

    @abstractmethod
    def allocate(self, options: BitOptions, budget: int, generator: torch.Generator) -> Tensor:
        """The bits of each dimension.

        Args:
            options: to choose from.
            budget: bits to spend, from 0 to k·Q.
            generator: CPU generator of every random draw.

        Returns:
            int64 (k,), from 0 to Q, of sum `budget`.
        """
