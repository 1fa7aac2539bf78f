"""Deep supervised hashing (Liu, Wang, Shan & Chen, CVPR 2016)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive


def contrastive(codes: Tensor, neighbours: Tensor, margin: float) -> Tensor:
    """Mean over pairs of ½‖u - v‖² for neighbours and ½ max(m - ‖u - v‖², 0) for others.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n).
        margin: m, the squared distance from which other items are far enough.

    Returns:
        A scalar; 0 if there is no pair.
    """
    squares = codes.square().sum(1)
    distances = squares[:, None] + squares - 2 * (codes @ codes.T)
    costs = torch.where(neighbours, distances, (margin - distances).clamp_min(0)) / 2
    return masked_mean(costs, ~torch.eye(len(codes), dtype=torch.bool, device=codes.device))


@final
class DSH(Loss):
    """Deep supervised hashing: pulls codes of neighbours together and pushes others apart, up to a margin.

    This is a contrastive loss of Euclidean distances between codes, with a second term that pulls every entry towards
    -1 or 1. For bits, the squared distance is four times the Hamming distance.
    Known weakness: neighbours are pulled to the same code, which is more than a ranking requires, and the margin must
    suit the code length.

    Shape:
        codes (n, l), neighbours (n, n) → scalar, at least 0.

    Args:
        margin: m; None for 2 l, a Hamming distance of half the code length, as in the paper.
        alpha: weight of the second term, .01 as in the paper.

    Raises:
        InvalidInputError: margin is not above 0, or alpha is below 0.

    References:
        Liu, Wang, Shan & Chen, "Deep supervised hashing for fast image retrieval", CVPR 2016.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, margin: float | None = None, alpha: float = 0.01) -> None:
        super().__init__()
        if margin is not None:
            check_positive(margin, "margin")
        check_weight(alpha, "alpha")
        self.margin, self.alpha = margin, alpha

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Contrastive loss plus the weighted pull to bits, doubled because each pair has two codes."""
        assert batch.neighbours is not None
        margin = 2.0 * batch.codes.shape[1] if self.margin is None else self.margin
        pull = 2 * (batch.codes.abs() - 1).abs().sum(1).mean()
        return contrastive(batch.codes, batch.neighbours, margin) + self.alpha * pull
