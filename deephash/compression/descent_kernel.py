"""Coordinate descent over the bits of additive codes, compiled by numba."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs

import numpy as np

from deephash.functional.compiled import compiled


@compiled
def descend(remaining, signs, products, sweeps, begin, end):
    """Flip the bits of each item one by one, given the others, while that lowers the error of its reconstruction.

    `remaining` float32 (n, b) are the products of the residuals with the directions, `signs` float32 (n, b) are -1 and
    1, and `products` float32 (b, b) those of the directions with each other. The first two change in place. The descent
    of an item ends after `sweeps` passes over its bits, or after a pass without a flip.
    """
    bits = len(products)
    for item in range(begin, end):
        residual, sign = remaining[item], signs[item]
        for _ in range(sweeps):
            flips = 0
            for bit in range(bits):
                # A flip lowers the error if the residual exceeds the direction on the other side.
                if sign[bit] * residual[bit] < -products[bit, bit]:
                    change = np.float32(-2) * sign[bit]
                    sign[bit] = -sign[bit]
                    for other in range(bits):
                        residual[other] -= change * products[bit, other]
                    flips += 1
            if flips == 0:
                break
