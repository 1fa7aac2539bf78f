"""Hadamard codebook online hashing: rows of a Hadamard matrix as targets (Lin, Ji, Liu & Liu, ACM MM 2018)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.class_codewords import hadamard_matrix, random_codeword, target_codewords
from deephash.functional.unit_features import unit_features
from deephash.projections.online.base import count_classes
from deephash.projections.online.unit_projection import UnitProjection
from deephash.validation import InvalidInputError, check_count, check_positive

# Smallest order of the Hadamard matrix, and so the smallest number of codewords.
MIN_ORDER = 16


def draw_codebook(order: int, k: int, generator: torch.Generator) -> Tensor:
    """Draw codewords of k bits, one per row of a Hadamard matrix, in random order.

    If the order differs from k, random projections reduce the rows to k bits by their signs, which preserves angles, as
    in LSH.

    Args:
        order: order of the matrix, a power of two.
        k: number of bits.
        generator: CPU generator of the draws.

    Returns:
        float32 (order, k), ±1.
    """
    rows = hadamard_matrix(order)[torch.randperm(order, generator=generator)]
    if order == k:
        return rows
    return (rows @ torch.randn(order, k, generator=generator) >= 0).float() * 2 - 1


def codebook_order(k: int, order: int | None) -> int:
    """Return a given order of the Hadamard matrix, or the smallest power of two that is at least k and 16.

    Raises:
        InvalidInputError: the order is not a power of two.
    """
    size = max(MIN_ORDER, 1 << (k - 1).bit_length()) if order is None else order
    check_count(size, "order")
    if size & (size - 1):
        raise InvalidInputError(f"order={size}; expected a power of two, as Sylvester's Hadamard matrices have.")
    return size


def check_codewords(classes: int, codewords: int) -> None:
    """Raise `InvalidInputError` if there are more classes than codewords."""
    if classes > codewords:
        raise InvalidInputError(
            f"{classes} classes exceed the {codewords} codewords; give order={1 << (classes - 1).bit_length()}."
        )


@final
class HCOH(UnitProjection):
    """Hadamard codebook online hashing: learns linear functions that reproduce the codeword of each item's class.

    Any two codewords differ in half of their bits. Each class index has a row of the codebook, so the number of
    classes need not be known in advance. Each item causes one gradient step of a regression through tanh. An item
    with several labels uses the majority of their codewords, bit by bit. Features are centred by the mean of the first
    batch and scaled to unit length.
    Known weakness: it is linear and needs a step size; codewords ignore which classes are similar.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        step_size: η of the gradient; .2 in the paper.
        regularisation: λ, the share of W that each step subtracts, so that an item is forgotten after about 1/λ
            further items.
        order: order of the Hadamard matrix, a power of two, and the maximum number of classes; None for the smallest
            that is at least k and 16.

    Attributes:
        codewords: float32 (order, k), ±1, one per class.

    Raises:
        InvalidInputError: step_size or regularisation is not above 0, or order is not a power of two; in `fit`, there
            are more classes than codewords.

    References:
        Lin, Ji, Liu & Liu, "Supervised online hashing via Hadamard codebook learning", ACM MM 2018.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    codewords: Tensor
    ties: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        step_size: float = 0.2,
        regularisation: float = 0.0001,
        order: int | None = None,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_positive(step_size, "step_size")
        check_positive(regularisation, "regularisation")
        size = codebook_order(output_dim, order)
        self.step_size = step_size
        self.regularisation = regularisation
        self.order = order
        self.register_buffer("codewords", torch.zeros(size, output_dim))
        self.register_buffer("ties", torch.ones(output_dim))

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.codewords.copy_(draw_codebook(len(self.codewords), self.output_dim, generator))
        self.ties.copy_(random_codeword(self.output_dim, generator))
        super()._start(features, labels, generator)

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        classes = count_classes(labels)
        check_codewords(classes, len(self.codewords))
        codewords = self.codewords[:classes] if labels.ndim > 1 else self.codewords
        targets = target_codewords(labels, codewords, self.ties).to(self.directions)
        weights = self.directions.detach().clone()
        for x, target in zip(unit_features(features, self.mean), targets, strict=True):
            code = torch.tanh(x @ weights)
            # An item without labels has the target 0, so that its gradient is 0.
            slope = (code - target) * (1 - code.square()) * target.abs()
            weights.mul_(1 - self.regularisation).sub_(torch.outer(x, self.step_size * slope))
        self.directions.copy_(weights)
