"""Codewords of classes, far from each other: the targets of codes in CSQ, DPN and OrthoHash."""

import torch
from torch import Tensor

from deephash.validation import InvalidInputError, check_choice, check_count

CONSTRUCTIONS = ("hadamard", "bernoulli")
# Number of random sets of codewords, the best of which is used.
DRAWS = 20


def hadamard_matrix(order: int) -> Tensor:
    """Build Sylvester's matrix of ±1, whose rows are orthogonal: any two differ in half of their positions.

    Args:
        order: a power of two.

    Returns:
        float32 (order, order).
    """
    matrix = torch.ones(1, 1)
    seed = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    while len(matrix) < order:
        matrix = torch.kron(seed, matrix)
    return matrix


def bernoulli_codewords(classes: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw codewords whose bits are fair coins.

    Several sets of codewords are drawn. The function returns the set whose two nearest codewords are farthest apart.

    Args:
        classes: number of codewords c.
        length: code length l in bits.
        generator: CPU generator of the draws.

    Returns:
        float32 (c, l), ±1.
    """
    drawn = torch.randint(2, (DRAWS, classes, length), generator=generator).float() * 2 - 1
    products = drawn @ drawn.transpose(1, 2)
    products.diagonal(dim1=1, dim2=2).fill_(-length)
    return drawn[products.flatten(1).amax(1).argmin()]


def class_codewords(classes: int, length: int, construction: str, generator: torch.Generator | None = None) -> Tensor:
    """Return a codeword for each class.

    Args:
        classes: number of classes c.
        length: code length l in bits.
        construction: "bernoulli" for fair coins; "hadamard" for rows of the Hadamard matrix, and of its negative if
            there are more than l classes. If l is not a power of two, or c exceeds 2l, "hadamard" uses fair coins too.
            Rows are drawn at random: in a matrix of only the first rows, some columns are equal, and equal columns are
            redundant bits.
        generator: CPU generator of the draws; None for one seeded with 0.

    Returns:
        float32 (c, l), ±1.

    Raises:
        InvalidInputError: an unknown construction, or more classes than possible codewords.
    """
    check_count(classes, "classes")
    check_count(length, "code_length")
    check_choice(construction, CONSTRUCTIONS, "codewords")
    if classes > 2**length:
        raise InvalidInputError(f"{classes} classes exceed the {2**length} codewords of {length} bits; raise bits.")
    generator = generator or torch.Generator().manual_seed(0)
    power_of_two = length & (length - 1) == 0
    if construction == "bernoulli" or not power_of_two or classes > 2 * length:
        return bernoulli_codewords(classes, length, generator)
    rows = hadamard_matrix(length)
    if classes > length:
        rows = torch.cat([rows, -rows])
    return rows[torch.randperm(len(rows), generator=generator)[:classes]]


def random_codeword(length: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw one codeword of fair coins, float32 (l,), ±1."""
    return torch.randint(2, (length,), generator=generator or torch.Generator().manual_seed(0)).float() * 2 - 1


def target_codewords(labels: Tensor, codewords: Tensor, ties: Tensor) -> Tensor:
    """Return the target codeword of each item: that of its class, or the bitwise majority of its classes' codewords.

    Args:
        labels: class indices int64 (n,), or indicator bool (n, c).
        codewords: floating (c, l), ±1.
        ties: (l,), ±1, the value of a bit without a majority.

    Returns:
        (n, l), ±1; a row of 0 for an item without labels.
    """
    if labels.ndim == 1:
        return codewords[labels]
    votes = labels.to(codewords) @ codewords
    majority = torch.where(votes == 0, ties, votes.sign())
    return majority * labels.any(1, keepdim=True)
