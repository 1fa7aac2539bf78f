"""Supervised contrastive loss (Khosla et al., NeurIPS 2020), on codes."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive


def contrast(similarities: Tensor, neighbours: Tensor, temperature: float) -> Tensor:
    """Mean over an item's neighbours of -log p, where p is the softmax of a neighbour among all other items.

    Args:
        similarities: floating (n, n).
        neighbours: bool (n, n); the diagonal is ignored.
        temperature: τ.

    Returns:
        A scalar, averaged over the items (anchors) with a neighbour (L_out, Eq. 2 of the paper); 0 if there is none.
    """
    itself = torch.eye(len(similarities), dtype=torch.bool, device=similarities.device)
    logits = similarities / temperature
    # Not minus infinity, because the softmax of a single item would be undefined.
    others = logits.masked_fill(itself, torch.finfo(logits.dtype).min)
    log_shares = logits - others.logsumexp(1, keepdim=True)
    positives = neighbours & ~itself
    counts = positives.sum(1)
    losses = -log_shares.masked_fill(~positives, 0.0).sum(1) / counts.clamp_min(1)
    return losses.sum() / (counts > 0).sum().clamp_min(1)


@final
class SupCon(Loss):
    """Supervised contrastive learning: makes a softmax over the other items select the neighbours of each item.

    The similarity is u·v / l. For hard codes it is their cosine, 1 - 2d/l at Hamming distance d, so the loss compares
    the quantity that codes are ranked by. Items that are not neighbours are pushed away more strongly if they are near.
    Known weakness: a batch with few neighbours has little to learn from, and all neighbours count equally at any rank.

    Shape:
        codes (n, l), neighbours (n, n) → scalar.

    Args:
        temperature: τ; 0.1 as in the paper. One different bit changes a logit by 2 / (l τ).

    Raises:
        InvalidInputError: temperature is not above 0.

    References:
        Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu & Krishnan, "Supervised contrastive learning",
        NeurIPS 2020, Eq. 2.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def forward(self, batch: TrainingBatch) -> Tensor:
        """L_out over all anchors with a neighbour."""
        assert batch.neighbours is not None
        codes = batch.codes
        return contrast(codes @ codes.T / codes.shape[1], batch.neighbours, self.temperature)
