"""Deep supervised hashing with triplet labels (Wang, Shi & Kitani, ACCV 2016)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number

# Triplets whose differences are held at once: 16 MB of float32, and as much again for each step of the backward pass.
BLOCK_TRIPLETS = 1 << 22


def triplet_likelihood(codes: Tensor, neighbours: Tensor, margin: float) -> Tensor:
    """Mean over triplets of -log σ(θ_qi - θ_qj - α), θ being u·v / 2, i a neighbour of q and j none.

    Triplets are as many as pairs of neighbours times other items, so they come in blocks of which the backward pass
    works out each anew.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n).
        margin: α.

    Returns:
        A scalar; 0 where there is no triplet.
    """
    n = len(codes)
    theta = codes @ codes.T / 2
    itself = torch.eye(n, dtype=torch.bool, device=codes.device)
    others = ~neighbours & ~itself
    queries, near = (neighbours & ~itself).nonzero(as_tuple=True)

    def block_sum(theta: Tensor, queries: Tensor, near: Tensor) -> Tensor:
        differences = theta[queries, near][:, None] - theta[queries] - margin
        return -(nn.functional.logsigmoid(differences) * others[queries]).sum()

    total = 0 * theta.sum()
    rows = max(1, BLOCK_TRIPLETS // n)
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        total = total + checkpoint(
            block_sum, theta, queries[block], near[block], use_reentrant=False, preserve_rng_state=False
        )
    return total / others.sum(1)[queries].sum().clamp_min(1)


@final
class DTSH(Loss):
    """Likelihood of triplets: a neighbour's inner product exceeds another item's by a margin; and nearness to bits.

    All triplets of the batch count. Known weakness: most of them are right early on and say little more, and their
    number is what a step costs: neighbour pairs times items.

    Shape:
        codes (n, l), neighbours (n, n) → scalar, at least 0.

    Args:
        margin: α, in halves of inner products, which is to say in bits; None for l / 2, half of the code length, as in
            the paper.
        eta: weight of the squared distance of codes from their bits, λ in the paper, which adds up where this takes
            means: its 100 for batches of 128 of ten classes comes to about 1 at 12 bits and 3 at 48.

    Raises:
        InvalidInputError: a margin or a weight below 0.

    References:
        Wang, Shi & Kitani, "Deep supervised hashing with triplet labels", ACCV 2016.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, margin: float | None = None, eta: float = 1.0) -> None:
        super().__init__()
        for name, value in (("margin", 0.0 if margin is None else margin), ("eta", eta)):
            check_number(value, name)
            if value < 0:
                raise InvalidInputError(f"{name}={value!r}; expected a number of at least 0.")
        self.margin, self.eta = margin, eta

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Negative log-likelihood of the triplets, and the quantisation error."""
        assert batch.neighbours is not None
        margin = batch.codes.shape[1] / 2 if self.margin is None else self.margin
        quantisation = (batch.codes.abs() - 1).square().mean()
        return triplet_likelihood(batch.codes, batch.neighbours, margin) + self.eta * quantisation
