"""Deep pairwise-supervised hashing (Li, Wang & Kang, IJCAI 2016)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number


def pairwise_likelihood(codes: Tensor, neighbours: Tensor) -> Tensor:
    """-log p(S | U), the mean over pairs of different items of log(1 + exp θ) - s θ, θ being u·v / 2.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n), s of each pair.

    Returns:
        A scalar; 0 where there is no pair.
    """
    n = len(codes)
    theta = codes @ codes.T / 2
    others = ~torch.eye(n, dtype=torch.bool, device=codes.device)
    costs = nn.functional.binary_cross_entropy_with_logits(
        theta, neighbours.to(theta), others.to(theta), reduction="sum"
    )
    return costs / max(1, n * (n - 1))


@final
class DPSH(Loss):
    """Likelihood of which pairs are neighbours, given half the inner products of their codes, and nearness to bits.

    Every pair counts alike. Known weakness: pairs that are no neighbours are nearly all of them, and soon drive the
    loss; `hashnet` weighs the two kinds. Half of an inner product of long codes is far out where the likelihood is
    flat, so pairs settle well before they lie as near, or as far, as they could.

    Shape:
        codes (n, l), neighbours (n, n) → scalar, at least 0.

    Args:
        eta: weight of the squared distance of codes from their bits. The paper adds up where this takes means: its 10
            for 5,000 items of 48 bits comes to 10 · 48 / 5000, about 0.1.

    Raises:
        InvalidInputError: a weight below 0.

    References:
        Li, Wang & Kang, "Feature learning based deep supervised hashing with pairwise labels", IJCAI 2016.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, eta: float = 0.1) -> None:
        super().__init__()
        check_number(eta, "eta")
        if eta < 0:
            raise InvalidInputError(f"eta={eta!r}; expected a number of at least 0.")
        self.eta = eta

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Negative log-likelihood of the pairs, and the quantisation error."""
        assert batch.neighbours is not None
        quantisation = (batch.codes.abs() - 1).square().mean()
        return pairwise_likelihood(batch.codes, batch.neighbours) + self.eta * quantisation
