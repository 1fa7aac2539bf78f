"""The allocation of VBQ's authors: the largest sum of the values of all projections."""

from typing import final

import torch
from torch import Tensor

from deephash.quantizers.bit_allocations.base import BitAllocation, BitOptions
from deephash.quantizers.bit_allocations.knapsack_search import allocate_bits


@final
class Knapsack(BitAllocation):
    """The largest total F1 under the budget, by dynamic programming, where the authors use a binary linear programme.

    Exact and deterministic. Known weakness: redundant projections each have the full value.

    References:
        Moran, Lavrenko & Osborne, "Variable bit quantisation for LSH", ACL 2013.
    """

    def allocate(self, options: BitOptions, budget: int, generator: torch.Generator) -> Tensor:
        """Choose the number of bits of each projection; draws nothing."""
        return torch.from_numpy(allocate_bits(options.worth.numpy(), budget))
