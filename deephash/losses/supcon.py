"""Supervised contrastive loss (Khosla et al., NeurIPS 2020), on codes."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive


def contrast(similarities: Tensor, neighbours: Tensor, temperature: float) -> Tensor:
    """-log of the softmax over all other items that falls on a neighbour, averaged over the neighbours of an anchor.

    Args:
        similarities: floating (n, n).
        neighbours: bool (n, n); the diagonal is not read.
        temperature: τ.

    Returns:
        A scalar, averaged over the anchors with a neighbour (L_out, Eq. 2 of the paper); 0 where there is none.
    """
    own = torch.eye(len(similarities), dtype=torch.bool, device=similarities.device)
    logits = similarities / temperature
    # Not minus infinity: an item alone in its batch would have no softmax.
    others = logits.masked_fill(own, torch.finfo(logits.dtype).min)
    log_shares = logits - others.logsumexp(1, keepdim=True)
    positives = neighbours & ~own
    counts = positives.sum(1)
    each = -log_shares.masked_fill(~positives, 0.0).sum(1) / counts.clamp_min(1)
    return each.sum() / (counts > 0).sum().clamp_min(1)


@final
class SupCon(Loss):
    """Each item against the others of the batch: a softmax of similarities should fall on its neighbours alone.

    Similarity is u·v / l, of hard codes their cosine and 1 - 2d/l at Hamming distance d, so what is compared is what is
    ranked by. Items that are no neighbours are pushed the harder the nearer they are. Known weakness: with few
    neighbours in a batch it has little to say, and it asks equally of all neighbours, wherever they are ranked.

    Shape:
        codes (n, l), neighbours (n, n) → scalar.

    Args:
        temperature: τ; 0.1 as in the paper. A bit of difference changes a logit by 2 / (l τ).

    Raises:
        InvalidInputError: a temperature not above 0.

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
