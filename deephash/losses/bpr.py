"""BPR: binary passages for candidates, float queries to order them (Yamada, Asai & Hajishirzi, ACL 2021)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.quantizers.base import Quantizer
from deephash.validation import check_positive


def rank_candidates(queries: Tensor, passages: Tensor, margin: float, negatives: Tensor) -> Tensor:
    """Compute the candidate loss: max(0, margin - u·v⁺ + u·v⁻) averaged over queries u and their negatives v⁻.

    Args:
        queries: floating (n, l), codes of queries.
        passages: (n, l), codes of their passages v⁺.
        margin: margin of the inner products.
        negatives: bool (n, n), True where passage j is a negative of query i.

    Returns:
        A scalar; 0 without negatives.
    """
    products = queries @ passages.T
    violations = (margin - products.diagonal()[:, None] + products).clamp_min(0)
    return (violations * negatives).sum() / negatives.sum().clamp_min(1)


@final
class BPR(Loss):
    """Binary passage retriever: codes find candidates by Hamming distance, and the float query orders them.

    The loss is the sum of two tasks. The candidate loss is a hinge between the codes of a query, its passage and the
    other passages of the batch. The rerank loss is the cross-entropy of finding the passage by the inner product of the
    query's margins in float and the passages' codes. With `relaxation=growing_tanh` both are those of the paper. A
    search then needs codes of passages alone: `TwoStage` with `Margins`.
    Known weakness: the inner products of long codes are large, so the softmax is sharp from the start, and settles
    early on the hardest passages of a batch.

    Four things differ from the paper. Queries and passages have one encoder, not two. A projection makes codes of any
    length, where the paper takes the sign of each of the 768 outputs of BERT. Margins are in units of their mean
    absolute deviation. The candidate loss is the mean over negatives, as in the authors' code; the paper writes a sum.

    Shape:
        codes (n, l), second codes (n, l), projections (n, l), relevant (n, n) → scalar, at least 0.

    Args:
        margin: margin of the candidate loss, 2 as in the paper.

    Raises:
        InvalidInputError: margin is not above 0.

    References:
        Yamada, Asai & Hajishirzi, "Efficient passage retrieval with hashing for open-domain question answering", ACL
        2021, Eqs. 3 to 6.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"pairs", "second_codes", "one_view"})

    def __init__(self, margin: float = 2.0) -> None:
        super().__init__()
        check_positive(margin, "margin")
        self.margin = margin

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Sum of the candidate loss and the rerank loss."""
        assert batch.second_codes is not None
        assert isinstance(batch.quantizer, Quantizer)
        own = torch.eye(len(batch), dtype=torch.bool, device=batch.codes.device)
        relevant = own if batch.relevant is None else batch.relevant
        thresholds = batch.quantizer.get_parameter("thresholds")[: batch.projections.shape[1], None]
        projections, thresholds = batch.quantizer.scale_to_units(batch.projections, thresholds)
        products = ((projections - thresholds[:, 0]) @ batch.second_codes.T).masked_fill(relevant & ~own, -torch.inf)
        rerank = nn.functional.cross_entropy(products, torch.arange(len(batch), device=products.device))
        return rank_candidates(batch.codes, batch.second_codes, self.margin, ~relevant) + rerank
