"""How many of a budget's bits each dimension gets: a multiple-choice knapsack, solved exactly."""

import numpy as np
from numpy.typing import NDArray

from deephash.validation import InvalidInputError


def allocate_bits(worth: NDArray[np.float64], budget: int) -> NDArray[np.int64]:
    """The allocation of largest total worth that spends the budget to the last bit.

    With A(j, s) the most that the first j dimensions give for s bits, A(j, s) = max over b of A(j - 1, s - b) + worth
    of b bits for dimension j. Of equal allocations, the one with fewer bits in the last dimensions is taken.

    Args:
        worth: (k, most + 1), what 0, 1, ..., most bits are worth in each dimension.
        budget: bits to spend, from 0 to k·most.

    Returns:
        (k,), bits of each dimension, of sum `budget`.

    Raises:
        InvalidInputError: a budget that k dimensions cannot hold.
    """
    k, choices = worth.shape
    if not 0 <= budget <= k * (choices - 1):
        raise InvalidInputError(
            f"budget={budget} bits; {k} dimensions of at most {choices - 1} bits hold 0 to {k * (choices - 1)}."
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
