"""The allocation of VBQ's authors: the largest sum of the values of all projections."""

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.quantizers.bit_allocations.base import BitAllocation, BitOptions
from deephash.validation import InvalidInputError


def allocate_bits(worth: NDArray[np.float64], budget: int) -> NDArray[np.int64]:
    """Find the allocation of largest total worth that spends exactly the budget.

    Let A(j, s) be the largest worth of the first j projections for s bits. It is the maximum over b of the worth of b
    bits for projection j plus A(j - 1, s - b). Among equal allocations, the one with fewer bits in the last projections
    is taken.

    Args:
        worth: (k, most + 1), the worth of 0, 1, ..., most bits for each projection.
        budget: bits to spend, from 0 to k·most.

    Returns:
        (k,), bits of each projection, which sum to `budget`.

    Raises:
        InvalidInputError: the budget is below 0 or above k·most.
    """
    k, choices = worth.shape
    if not 0 <= budget <= k * (choices - 1):
        raise InvalidInputError(
            f"budget={budget} bits; expected 0 to {k * (choices - 1)} for {k} dimensions of at most {choices - 1} bits."
        )
    best = np.full(budget + 1, -np.inf)
    best[0] = 0.0
    chosen = np.zeros((k, budget + 1), np.int64)
    for j in range(k):
        options = np.full((choices, budget + 1), -np.inf)
        for bits in range(min(choices, budget + 1)):
            options[bits, bits:] = best[: budget + 1 - bits] + worth[j, bits]
        chosen[j] = options.argmax(0)
        best = options.max(0)
    allocation = np.zeros(k, np.int64)
    left = budget
    for j in range(k - 1, -1, -1):
        allocation[j] = chosen[j, left]
        left -= allocation[j]
    return allocation


@final
class Knapsack(BitAllocation):
    """Allocation of largest total F1 in the budget by dynamic programming; the authors use a binary linear programme.

    Exact and deterministic. Known weakness: each of several redundant projections counts with its full value.

    References:
        Moran, Lavrenko & Osborne, "Variable bit quantisation for LSH", ACL 2013.
    """

    def allocate(self, options: BitOptions, budget: int, generator: torch.Generator) -> Tensor:
        """Choose the number of bits of each projection; draws nothing."""
        return torch.from_numpy(allocate_bits(options.worth.numpy(), budget))
