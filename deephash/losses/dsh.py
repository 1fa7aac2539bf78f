"""Deep supervised hashing (Liu, Wang, Shan & Chen, CVPR 2016)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number, check_positive


def contrastive(codes: Tensor, neighbours: Tensor, margin: float) -> Tensor:
    """Mean over pairs of ½‖u - v‖² of neighbours, and ½ max(m - ‖u - v‖², 0) of others.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n).
        margin: m, the squared distance beyond which others lie far enough.

    Returns:
        A scalar; 0 where there is no pair.
    """
    n = len(codes)
    squares = codes.square().sum(1)
    distances = squares[:, None] + squares - 2 * (codes @ codes.T)
    costs = torch.where(neighbours, distances, (margin - distances).clamp_min(0)) / 2
    others = ~torch.eye(n, dtype=torch.bool, device=codes.device)
    return (costs * others).sum() / max(1, n * (n - 1))


@final
class DSH(Loss):
    """Contrastive loss of Euclidean distances between codes, with a pull of every entry towards -1 or 1.

    Neighbours are drawn together, other pairs pushed apart up to a margin. Known weakness: neighbours are drawn to one
    code, which is more than a ranking asks for, and the margin must suit the code length. Among bits, a squared
    distance is four times the Hamming distance.

    Shape:
        codes (n, l), neighbours (n, n) → scalar, at least 0.

    Args:
        margin: m; None for 2 l, half of the code apart in Hamming distance, as in the paper.
        alpha: weight of the pull, .01 as in the paper.

    Raises:
        InvalidInputError: a margin that is not above 0, or a weight below 0.

    References:
        Liu, Wang, Shan & Chen, "Deep supervised hashing for fast image retrieval", CVPR 2016.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, margin: float | None = None, alpha: float = 0.01) -> None:
        super().__init__()
        if margin is not None:
            check_positive(margin, "margin")
        check_number(alpha, "alpha")
        if alpha < 0:
            raise InvalidInputError(f"alpha={alpha!r}; expected a number of at least 0.")
        self.margin, self.alpha = margin, alpha

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Contrastive loss and the pull; each pair has two codes to pull."""
        assert batch.neighbours is not None
        margin = 2.0 * batch.codes.shape[1] if self.margin is None else self.margin
        pull = 2 * (batch.codes.abs() - 1).abs().sum(1).mean()
        return contrastive(batch.codes, batch.neighbours, margin) + self.alpha * pull
