"""C = Vᵀ sign(V R) for successive rotations R, updated by the signs that flip between them; compiled for the CPU.

Fewer than 1 % of the signs change from one round of ITQ to the next. Updating C for only these saves half of the
arithmetic, and the rotated rows are compared with the stored signs while they are in the first-level cache.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.functional.compiled import compiled

# Rows are cut into this many parts for any number of threads, so that the order of summation is fixed.
PARTS = 16


@cache
def _compile_flip_kernel(k: int) -> Callable[..., None]:
    """Compile the loop over rows for a width k, a multiple of 8. A constant k lets inner loops become SIMD code."""

    def correct(projections: Any, rotation: Any, negative: Any, correlation: Any) -> None:
        """Update `negative` (n, k) int8, -1 where V R < 0, and `correlation` (k, k), Cᵀ, by the rows' flipped signs."""
        rotated = np.zeros(2 * k, np.float32)
        # A flip is a difference of sign bits, found in whole vectors.
        rotated_bits = rotated.view(np.int32)
        for i in range(0, projections.shape[0], 2):
            for j in range(2 * k):
                rotated[j] = 0
            for p in range(0, k, 4):
                # Two rows by four terms of the inner product balance loads, stores and multiplications.
                a0, a1, a2, a3 = projections[i, p], projections[i, p + 1], projections[i, p + 2], projections[i, p + 3]
                b0, b1 = projections[i + 1, p], projections[i + 1, p + 1]
                b2, b3 = projections[i + 1, p + 2], projections[i + 1, p + 3]
                for j in range(k):
                    r0, r1 = rotation[p * k + j], rotation[(p + 1) * k + j]
                    r2, r3 = rotation[(p + 2) * k + j], rotation[(p + 3) * k + j]
                    rotated[j] = a3 * r3 + (a2 * r2 + (a1 * r1 + (a0 * r0 + rotated[j])))
                    rotated[k + j] = b3 * r3 + (b2 * r2 + (b1 * r1 + (b0 * r0 + rotated[k + j])))
            for row in range(2):
                flipped = np.int32(0)
                for j in range(k):
                    flipped |= rotated_bits[row * k + j] ^ np.int32(negative[i + row, j])
                if flipped < 0:
                    for j in range(k):
                        if (rotated_bits[row * k + j] ^ np.int32(negative[i + row, j])) < 0:
                            negative[i + row, j] = ~negative[i + row, j]
                            change = np.float64(2 + 4 * negative[i + row, j])
                            for q in range(k):
                                correlation[j, q] += change * np.float64(projections[i + row, q])

    return compiled(correct, fastmath={"contract"})


class SignFlips:
    """C = Vᵀ sign(V R) for a sequence of rotations that change little.

    Args:
        projections: V, float32 (n, k) on the CPU; not changed.
        pool: threads that share the rows.
        threads: number of threads.
    """

    def __init__(self, projections: Tensor, pool: ThreadPoolExecutor, threads: int) -> None:
        n, k = projections.shape
        width = -(-k // 8) * 8
        self._pool = pool
        self._shape = (k, width)
        # The zero rows and columns that pad the kernel's steps never change sign.
        self._projections = torch.nn.functional.pad(projections, (0, width - k, 0, n % 2)).contiguous()
        # All signs start as positive, so each column of C is the sum of V's rows.
        self._negative = np.zeros(self._projections.shape, np.int8)
        self._correlation = projections.sum(0, dtype=torch.float64)[:, None].repeat(1, k)
        bounds = np.linspace(0, len(self._projections) // 2, PARTS + 1).astype(int) * 2
        self._parts = [slice(*ends) for ends in pairwise(bounds)]
        self._shares = [range(first, PARTS, threads) for first in range(min(threads, PARTS))]
        self._kernel = _compile_flip_kernel(width)

    def __call__(self, rotation: Tensor) -> Tensor:
        """Return C of the next rotation R, both float64 (k, k)."""
        k, width = self._shape
        flat = torch.nn.functional.pad(rotation.float(), (0, width - k, 0, width - k)).numpy().ravel()
        projections = self._projections.numpy()

        # In float64, so that the partition of the rows among parts and processes does not matter.
        changes = np.zeros((PARTS, width, width))

        def correct(share: range) -> None:
            for part in share:
                rows = self._parts[part]
                self._kernel(projections[rows], flat, self._negative[rows], changes[part])

        list(self._pool.map(correct, self._shares))
        self._correlation += torch.from_numpy(changes.sum(0))[:k, :k].T
        return self._correlation


@contextmanager
def sign_flips(projections: Tensor) -> Iterator[SignFlips]:
    """Provide a `SignFlips` with torch's number of threads, while torch itself uses one.

    Torch's own threads stay awake for a while after each operation, and would compete for the cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield SignFlips(projections, pool, threads)
    finally:
        torch.set_num_threads(threads)
