"""Uncorrelated bits (Weiss, Torralba & Fergus, NIPS 2008)."""

from typing import final

import torch
from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_choice

# Added to variances, so that a bit that never changes has no correlation instead of 0/0.
MIN_VARIANCE = 1e-6


def correlations(values: Tensor) -> Tensor:
    """Correlation of each two columns, (n, l) → (l, l); 0 with a column that does not vary."""
    centred = values - values.mean(0)
    standardised = centred / (centred.square().mean(0) + MIN_VARIANCE).sqrt()
    return standardised.T @ standardised / len(values)


@final
class Decorrelation(Loss):
    """Squared correlation of two bits over the batch, averaged over all pairs of bits: none should repeat another.

    Scale-free, so it cannot be lowered by shrinking codes. Known weakness: uncorrelated is not independent; a batch of
    n items has correlations of about 1/√n by chance alone; and where codes are numbers in unary, steps of one dimension
    are correlated by nature: take projections there.

    Shape:
        codes (n, l) or projections (n, k) → scalar in [0, 1]; 0 with one bit or one item.

    Args:
        of: "codes", or "projections", for which this also stands in for directions kept orthogonal where their method
            does not (`train.keep_orthogonal` keeps the others exactly).

    Raises:
        InvalidInputError: another word.

    References:
        Weiss, Torralba & Fergus, "Spectral hashing", NIPS 2008, whose constraint it softens; off-diagonal correlations
        of a batch as a loss in Zbontar, Jing, Misra, LeCun & Deny, "Barlow twins", ICML 2021.
    """

    def __init__(self, of: str = "codes") -> None:
        super().__init__()
        check_choice(of, ("codes", "projections"), "of")
        self.of = of

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared correlation between different bits."""
        values = batch.codes if self.of == "codes" else batch.projections
        length = values.shape[1]
        different = ~torch.eye(length, dtype=torch.bool, device=values.device)
        return (correlations(values).square() * different).sum() / max(1, length * (length - 1))
