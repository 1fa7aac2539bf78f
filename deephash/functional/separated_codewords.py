"""Codewords of classes with a minimal distance from the Gilbert-Varshamov bound (Wang et al., CVPR 2023)."""

from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.functional.class_codewords import class_codewords
from deephash.validation import InvalidInputError

# Rounds over all codewords that search for one distance.
ROUNDS = 50


def gilbert_varshamov_distance(classes: int, length: int) -> int:
    """Smallest d with c Σ_{i < d} C(l, i) >= 2^l, at most l.

    By the bound, c codewords of distance d - 1 exist. Those of distance d usually exist too, and are searched for.

    Args:
        classes: number of codewords c, from 1 to 2^l.
        length: code length l in bits.
    """
    total = 0
    for distance in range(1, length + 1):
        total += comb(length, distance - 1)
        if classes * total >= 2**length:
            return distance
    return length


def minimal_distance(codewords: Tensor) -> int:
    """Smallest Hamming distance between two codewords ±1, (c, l); l for a single one."""
    products = codewords @ codewords.T
    length = codewords.shape[1]
    products.fill_diagonal_(-length)
    return int(length - products.max()) // 2 if len(codewords) > 1 else length


def separated_codewords(classes: int, length: int, generator: torch.Generator | None = None) -> Tensor:
    """Find codewords that are far apart on average, of which no two are nearer than a bound.

    They minimise the sum of inner products of all pairs, with distances of at least d. The search starts
    from rows of a Hadamard matrix, or from fair coins if no such matrix fits. It changes one codeword after another, by
    single bits, as long as the sum falls; a violated distance counts more than any change of the sum. The paper relaxes
    each codeword to real numbers instead (lp-box ADMM); the objective and the constraint are the same.

    Args:
        classes: number of codewords c.
        length: code length l in bits.
        generator: CPU generator of the draws; None for one seeded with 0.

    Returns:
        float32 (c, l), ±1. The minimal distance is that of `gilbert_varshamov_distance`, or the largest below it for
        which codewords are found.

    Raises:
        InvalidInputError: more codewords than exist, or no distinct ones are found.
    """
    generator = generator or torch.Generator().manual_seed(0)
    start = class_codewords(classes, length, "hadamard", generator).numpy().astype(np.int64)
    for distance in range(gilbert_varshamov_distance(classes, length), 0, -1):
        found = _separate(start, distance, generator)
        if found is not None:
            return torch.from_numpy(found).float()
    raise InvalidInputError(f"no {classes} distinct codewords of {length} bits were found; raise bits.")


def _separate(start: NDArray[np.int64], distance: int, generator: torch.Generator) -> NDArray[np.int64] | None:
    """Return codewords of at least this distance, or None if the search does not find them."""
    classes, length = start.shape
    codewords = start.copy()
    most = length - 2 * distance
    for _ in range(ROUNDS):
        changed = False
        for number in range(classes):
            others = np.delete(codewords, number, 0)
            better = _descend(codewords[number], others, most)
            changed |= bool((better != codewords[number]).any())
            codewords[number] = better
        products = codewords @ codewords.T
        np.fill_diagonal(products, -length)
        crowded = (products > most).any(1).nonzero()[0]
        if not len(crowded) and not changed:
            return codewords
        if not changed:
            # A local minimum: one of the codewords that are too near is drawn again.
            drawn = crowded[int(torch.randint(len(crowded), (), generator=generator))]
            codewords[drawn] = 2 * torch.randint(2, (length,), generator=generator).numpy() - 1
    return None if len(crowded) else codewords


def _descend(codeword: NDArray[np.int64], others: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Flip the bit that lowers the cost of a codeword the most, until none does.

    The cost is the sum of its inner products with the others, plus c for each unit by which one exceeds `most`.
    """
    codeword = codeword.copy()
    sums = others.sum(0)
    products = others @ codeword
    while True:
        changes = -2 * codeword * sums
        # Only these products exceed the limit before or after a flip, which changes them by 2.
        near = products > most - 2
        if near.any():
            flipped = products[near, None] - 2 * others[near] * codeword
            excess = np.maximum(flipped - most, 0).sum(0) - np.maximum(products[near] - most, 0).sum()
            changes = changes + (len(others) + 1) * excess
        bit = int(changes.argmin())
        if changes[bit] >= 0:
            return codeword
        products -= 2 * others[:, bit] * codeword[bit]
        codeword[bit] *= -1
