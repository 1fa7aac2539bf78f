"""The loss of HashNet (Cao, Long, Wang & Yu, ICCV 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive


def weighted_likelihood(codes: Tensor, neighbours: Tensor, alpha: float) -> Tensor:
    """Mean of w (log(1 + exp(α u·v)) - s α u·v) over pairs; w is |S| / |S₁| for neighbours, else |S| / |S₀| (Eq. 4).

    S is the set of all pairs, S₁ of neighbours, and S₀ of other pairs. The result is the mean over neighbour pairs plus
    the mean over other pairs.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n), s of each pair.
        alpha: steepness of the sigmoid.

    Returns:
        A scalar; without neighbours, or without other pairs, that mean is 0.
    """
    logits = alpha * (codes @ codes.T)
    others = ~torch.eye(len(codes), dtype=torch.bool, device=codes.device)
    costs = nn.functional.binary_cross_entropy_with_logits(logits, neighbours.to(logits), reduction="none")
    similar, dissimilar = neighbours & others, ~neighbours & others
    return masked_mean(costs, similar) + masked_mean(costs, dissimilar)


@final
class HashNet(Loss):
    """HashNet: maximises the likelihood of neighbours, with equal total weight for neighbours and other pairs.

    The probability that two items are neighbours is a sigmoid of the inner product of their codes. The paper's
    continuation, which brings relaxed codes to bits, is `relaxation=tanh`.
    Known weakness: the weights depend on the batch, so even a few neighbour pairs cause half of the gradient.

    Shape:
        codes (n, l), neighbours (n, n) → scalar, at least 0.

    Args:
        alpha: steepness of the sigmoid, below 1 so that long codes do not saturate it; None for 10 / l, as in the
            authors' code. All pairs of neighbours count equally; the paper weighs pairs of items with several
            labels by the share of common labels.

    Raises:
        InvalidInputError: alpha is not above 0.

    References:
        Cao, Long, Wang & Yu, "HashNet: deep learning to hash by continuation", ICCV 2017, Eqs. 2 to 4.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, alpha: float | None = None) -> None:
        super().__init__()
        if alpha is not None:
            check_positive(alpha, "alpha")
        self.alpha = alpha

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Weighted negative log-likelihood of the pairs."""
        assert batch.neighbours is not None
        alpha = 10 / batch.codes.shape[1] if self.alpha is None else self.alpha
        return weighted_likelihood(batch.codes, batch.neighbours, alpha)
