"""The loss of HashNet (Cao, Long, Wang & Yu, ICCV 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_positive


def common_label_shares(labels: Tensor) -> Tensor:
    """|y ∩ y'| / |y ∪ y'| of the labels of any two items, and 1 if they share none: the paper's c.

    Args:
        labels: indicator bool (n, c).

    Returns:
        float32 (n, n), in (0, 1].
    """
    table = labels.float()
    common = table @ table.T
    counts = table.sum(1)
    either = counts[:, None] + counts - common
    return torch.where(common > 0, common / either.clamp_min(1), 1.0)


def weighted_likelihood(codes: Tensor, neighbours: Tensor, alpha: float, shares: Tensor | None = None) -> Tensor:
    """Mean of w (log(1 + exp(α u·v)) - s α u·v) over pairs; w is c |S| / |S₁| for neighbours, else |S| / |S₀| (Eq. 4).

    S is the set of all pairs, S₁ of neighbours, and S₀ of other pairs. The result is the mean over neighbour pairs plus
    the mean over other pairs.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n), s of each pair.
        alpha: steepness of the sigmoid.
        shares: c of each pair, (n, n); None for 1.

    Returns:
        A scalar; without neighbours, or without other pairs, that mean is 0.
    """
    logits = alpha * (codes @ codes.T)
    others = ~torch.eye(len(codes), dtype=torch.bool, device=codes.device)
    costs = nn.functional.binary_cross_entropy_with_logits(logits, neighbours.to(logits), reduction="none")
    if shares is not None:
        costs = torch.where(neighbours, shares.to(costs) * costs, costs)
    similar, dissimilar = neighbours & others, ~neighbours & others
    return masked_mean(costs, similar) + masked_mean(costs, dissimilar)


@final
class HashNet(Loss):
    """HashNet: maximises the likelihood of neighbours, with equal total weight for neighbours and other pairs.

    The probability that two items are neighbours is a sigmoid of the inner product of their codes. If items have
    several labels, pairs of neighbours are weighed by the share of common labels, so that a pair with the same labels
    counts more than one with a single common label. The paper's continuation, which brings relaxed codes to bits, is
    `relaxation=tanh`.
    Known weakness: the weights depend on the batch, so even a few neighbour pairs cause half of the gradient.

    Shape:
        codes (n, l), neighbours (n, n), any labels (n, c) → scalar, at least 0.

    Args:
        alpha: steepness of the sigmoid, below 1 so that long codes do not saturate it; None for 10 / l, as in the
            authors' code.
        label_shares: whether to weigh neighbours by |y ∩ y'| / |y ∪ y'| if items have several labels, as in the paper;
            the authors' PyTorch code does not. Neighbours without a common label, as by distance, have weight 1.

    Raises:
        InvalidInputError: alpha is not above 0.

    References:
        Cao, Long, Wang & Yu, "HashNet: deep learning to hash by continuation", ICCV 2017, Eqs. 2 to 4.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, alpha: float | None = None, label_shares: bool = True) -> None:
        super().__init__()
        if alpha is not None:
            check_positive(alpha, "alpha")
        if not isinstance(label_shares, bool):
            raise InvalidInputError(f"label_shares={label_shares!r}; expected true or false.")
        self.alpha = alpha
        self.label_shares = label_shares

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Weighted negative log-likelihood of the pairs."""
        assert batch.neighbours is not None
        alpha = 10 / batch.codes.shape[1] if self.alpha is None else self.alpha
        labels = batch.labels
        shares = None
        if self.label_shares and labels is not None and labels.ndim > 1:
            shares = common_label_shares(labels)
        return weighted_likelihood(batch.codes, batch.neighbours, alpha, shares)
