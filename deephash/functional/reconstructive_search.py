"""Exact coordinate search for binary reconstructive embeddings, compiled for the CPU.

As one weight of a hash function moves, the bits of items flip one by one, each when its margin crosses 0. Visiting
these breakpoints in order and updating the loss at each flip finds the best value of the weight in one pass over the
pairs.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deephash.functional.compiled import compiled

# Breakpoints closer than this share of their size count as one: no weight fits between them.
SAME_BREAKPOINT = 1e-9

# Sums of costs may be reordered, and so vectorised.
_reassociated = partial(compiled, fastmath={"reassoc", "contract"})


@_reassociated
def _find_best_step(margins: Any, values: Any, bits: Any, costs: Any, offsets: Any, partners: Any) -> Any:
    """Find the step of one weight that lowers the loss most, and the change of the loss; both 0 if none lowers it."""
    steps = np.empty(len(margins))
    for i in range(len(margins)):
        steps[i] = -margins[i] / values[i] if values[i] != 0 else np.inf
    order = np.argsort(steps)
    above = np.searchsorted(steps[order], 0.0)
    best, best_step = 0.0, 0.0
    for side in (1, -1):
        flipped = bits.copy()
        change = 0.0
        at = above if side == 1 else above - 1
        while 0 <= at < len(order) and steps[order[at]] < np.inf:
            i = order[at]
            agreement = np.float32(0)
            for e in range(offsets[i], offsets[i + 1]):
                agreement += costs[e] * flipped[partners[e]]
            change += flipped[i] * agreement
            flipped[i] = -flipped[i]
            at += side
            ends = not 0 <= at < len(order) or steps[order[at]] == np.inf
            gap = 1e-3 * (1 + abs(steps[i])) if ends else abs(steps[order[at]] - steps[i])
            if change < best and gap > SAME_BREAKPOINT * abs(steps[i]):
                best, best_step = change, steps[i] + side * gap / 2
    return best_step, best


@_reassociated
def _descend(
    weights: Any, margins: Any, kernel: Any, moved: Any, share: Any, errors: Any, offsets: Any, partners: Any
) -> Any:
    """Move the weights of one bit in place, one by one, and return the change of the loss, which is never above 0."""
    bits = np.where(margins >= 0, np.float32(1), np.float32(-1))
    costs = np.empty(len(errors), np.float32)
    for i in range(len(margins)):
        for e in range(offsets[i], offsets[i + 1]):
            if bits[i] != bits[partners[e]]:
                errors[e] += share
            # If the bits of the pair are equal, the loss is the square of this error; otherwise the cost is added.
            costs[e] = share * (share - 2 * errors[e])
    total = 0.0
    for q in moved:
        step, change = _find_best_step(margins, kernel[q], bits, costs, offsets, partners)
        if change < 0:
            weights[q] += step
            total += change
            for i in range(len(margins)):
                margins[i] += step * kernel[q, i]
                bits[i] = 1 if margins[i] >= 0 else -1
    for i in range(len(margins)):
        for e in range(offsets[i], offsets[i + 1]):
            if bits[i] != bits[partners[e]]:
                errors[e] -= share
    return total


class ReconstructiveSearch:
    """Weights of b hash functions sign(Σ_q w_q κ_q(x)), moved one at a time to lower Σ (target - Hamming / b)².

    Args:
        kernel: κ, floating (m, n), one row per anchor.
        weights: W, floating (m, b); copied.
        pairs: int64 (p, 2), rows of items, without repetition.
        targets: floating (p,), the target distance of each pair; codes can reach those in [0, 1].
    """

    def __init__(self, kernel: NDArray[Any], weights: NDArray[Any], pairs: NDArray[Any], targets: NDArray[Any]) -> None:
        self.kernel = np.ascontiguousarray(kernel, np.float32)
        self.weights = np.array(weights.T, np.float64, order="C")
        # Each pair is listed under both items, so that all pairs that a flip changes are contiguous.
        both = np.concatenate([pairs, pairs[:, ::-1]])
        order = np.argsort(both[:, 0], kind="stable")
        self._partners = both[order, 1].astype(np.int32)
        self._offsets = np.concatenate([[0], np.cumsum(np.bincount(both[:, 0], minlength=kernel.shape[1]))])
        self._margins = self.weights @ self.kernel
        self._share = np.float32(1 / len(self.weights))
        first, bits = both[order, 0], self._margins >= 0
        self._errors = np.concatenate([targets, targets])[order].astype(np.float32)
        for bit in bits:
            self._errors -= self._share * (bit[first] != bit[self._partners])

    @property
    def loss(self) -> float:
        """Mean of (target - Hamming / b)² over the pairs."""
        return float(np.square(self._errors, dtype=np.float64).mean())

    def descend(self, bit: int, moved: NDArray[Any]) -> None:
        """Set the weights of one bit to their best values, one by one, with the others fixed.

        Args:
            bit: index of the hash function.
            moved: int64, anchors in the order in which their weights are set.
        """
        weights, margins = self.weights[bit], self._margins[bit]
        _descend(weights, margins, self.kernel, moved, self._share, self._errors, self._offsets, self._partners)
        # Bits do not change with the weights' size; unit size keeps steps and margins comparable.
        size = np.linalg.norm(weights)
        weights /= size
        margins /= size
