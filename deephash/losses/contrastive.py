"""Contrastive loss of queries and passages over the passages of the batch (van den Oord et al., 2018)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive


def cross_entropy_of_pairs(
    queries: Tensor, passages: Tensor, temperature: float, relevant: Tensor | None = None
) -> Tensor:
    """Cross-entropy of identifying each query's passage among those of the batch.

    The similarity is u·v / l, which is the cosine for hard bits.

    Args:
        queries: floating (n, l), codes of queries.
        passages: (n, l), codes of their passages.
        temperature: temperature of the softmax.
        relevant: bool (n, n), True where passage j is relevant to query i; other relevant passages than a query's own
            are left out of its softmax. None for only the diagonal.

    Returns:
        A scalar; 0 for one pair.
    """
    n, length = queries.shape
    similarity = queries @ passages.T / (length * temperature)
    if relevant is not None:
        own = torch.eye(n, dtype=torch.bool, device=queries.device)
        similarity = similarity.masked_fill(relevant & ~own, -torch.inf)
    return nn.functional.cross_entropy(similarity, torch.arange(n, device=queries.device))


@final
class Contrastive(Loss):
    """Contrastive learning from pairs of a query and a passage: each query's code finds its passage in the batch.

    The loss is the cross-entropy of a softmax over the passages of the batch, as InfoNCE and as the multiple negatives
    ranking loss of sentence-transformers, over relaxed codes. Passages of the batch that are known to be relevant to a
    query are not its negatives.
    Known weakness: the other passages of a batch are mostly easy negatives; large batches have harder ones.

    Shape:
        codes (n, l), second codes (n, l), relevant (n, n) → scalar, at least 0.

    Args:
        temperature: temperature of the softmax over similarities in [-1, 1]; .05 as in sentence-transformers, whose
            scale is 20.

    Raises:
        InvalidInputError: temperature is not above 0.

    References:
        van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding", arXiv:1807.03748,
        2018. Henderson, Al-Rfou, Strope, Sung, Lukács, Guo, Kumar, Miklos & Kurzweil, "Efficient natural language
        response suggestion for Smart Reply", arXiv:1705.00652, 2017, for the other passages of a batch as negatives.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"pairs", "second_codes"})

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Cross-entropy over the passages of the batch."""
        assert batch.second_codes is not None
        return cross_entropy_of_pairs(batch.codes, batch.second_codes, self.temperature, batch.relevant)
