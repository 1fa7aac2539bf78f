"""Hadamard codebook online hashing: rows of a Hadamard matrix as targets (Lin, Ji, Liu & Liu, ACM MM 2018)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.class_codewords import hadamard_matrix, random_codeword, target_codewords
from deephash.functional.principal_components import feature_mean
from deephash.functional.unit_features import random_unit_directions, unit_features
from deephash.projections.online.base import OnlineProjection
from deephash.validation import InvalidInputError, check_count, check_positive

# The smallest Hadamard matrix that is taken, whatever the bits: so many classes always have a codeword.
MIN_ORDER = 16


def codebook(order: int, k: int, generator: torch.Generator) -> Tensor:
    """Codewords of k bits for as many classes as the order: rows of a Hadamard matrix, drawn in random order.

    Rows of an order other than k are brought to k bits by the signs of random projections, which keep angles, as LSH.

    Args:
        order: of the matrix, a power of two.
        k: bits.
        generator: CPU generator of the draws.

    Returns:
        float32 (order, k), ±1.
    """
    rows = hadamard_matrix(order)[torch.randperm(order, generator=generator)]
    if order == k:
        return rows
    return (rows @ torch.randn(order, k, generator=generator) >= 0).float() * 2 - 1


@final
class HCOH(OnlineProjection):
    """Linear functions regressed, through tanh, on codewords that any two classes share half of their bits of.

    A class takes the next row of the codebook when it appears: the number of classes need not be known, and an item is
    learnt from by itself. An item of several labels takes the majority of their codewords, bit by bit. Features are
    centred by the first batch's mean and scaled to unit length.
    Known weakness: linear; a step size is to be chosen; codewords know nothing of which classes look alike.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, any.
        step_size: η of the gradient; .2 in the paper.
        regularisation: λ, the share of W that each step takes off, so that an item is forgotten after some 1/λ others.
        order: of the Hadamard matrix, a power of two, and the most classes there can be; None for the least that is no
            less than k, nor than 16.

    Attributes:
        codewords: float32 (order, k), ±1, one a class.

    Raises:
        InvalidInputError: step_size or regularisation not above 0, an order that is no power of two; in `fit`, more
            classes than codewords.

    References:
        Lin, Ji, Liu & Liu, "Supervised online hashing via Hadamard codebook learning", ACM MM 2018.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    mean: Tensor
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
        size = max(MIN_ORDER, 1 << (output_dim - 1).bit_length()) if order is None else order
        check_count(size, "order")
        if size & (size - 1):
            raise InvalidInputError(f"order={size}; expected a power of two, as Sylvester's Hadamard matrices have.")
        self.step_size = step_size
        self.regularisation = regularisation
        self.order = order
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("codewords", torch.zeros(size, output_dim))
        self.register_buffer("ties", torch.ones(output_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Inner products of unit features with directions."""
        return unit_features(features, self.mean) @ self.directions

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.mean.copy_(feature_mean(features))
        self.codewords.copy_(codebook(len(self.codewords), self.output_dim, generator))
        self.ties.copy_(random_codeword(self.output_dim, generator))
        self.directions.copy_(random_unit_directions(self.input_dim, self.output_dim, generator))

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        classes = labels.shape[1] if labels.ndim > 1 else int(labels.max()) + 1
        if classes > len(self.codewords):
            enough = 1 << (classes - 1).bit_length()
            raise InvalidInputError(
                f"{classes} classes exceed the {len(self.codewords)} codewords; give order={enough}."
            )
        codewords = self.codewords[:classes] if labels.ndim > 1 else self.codewords
        targets = target_codewords(labels, codewords, self.ties).to(self.directions)
        weights = self.directions.detach().clone()
        for x, target in zip(unit_features(features, self.mean), targets, strict=True):
            code = torch.tanh(x @ weights)
            # An item without labels has the target 0, and teaches nothing.
            slope = (code - target) * (1 - code.square()) * target.abs()
            weights.mul_(1 - self.regularisation).sub_(torch.outer(x, self.step_size * slope))
        self.directions.copy_(weights)
