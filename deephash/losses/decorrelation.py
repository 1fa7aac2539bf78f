"""Uncorrelated bits (Weiss, Torralba & Fergus, NIPS 2008)."""

from typing import final

import torch
from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_choice

# Added to variances, so that the correlation with a constant bit is 0 instead of 0/0.
MIN_VARIANCE = 1e-6


def correlations(values: Tensor) -> Tensor:
    """Correlation between any two columns, (n, l) → (l, l); 0 with a constant column."""
    centred = values - values.mean(0)
    standardised = centred / (centred.square().mean(0) + MIN_VARIANCE).sqrt()
    return standardised.T @ standardised / len(values)


@final
class Decorrelation(Loss):
    """Uncorrelated bits: minimises the squared correlation between bits over the batch, so that none repeats another.

    The loss does not depend on scale, so shrinking codes cannot lower it.
    Known weakness: uncorrelated bits need not be independent. In a batch of n items, random correlations are about
    1/√n. If codes are unary, the steps of one dimension are always correlated; use projections then.

    Shape:
        codes (n, l) or projections (n, k) → scalar in [0, 1], averaged over pairs of bits; 0 with one bit or one item.

    Args:
        of: "codes" or "projections". With projections, the loss makes directions nearly orthogonal. Methods that define
            orthogonal directions keep them exactly so with `train.keep_orthogonal`.

    Raises:
        InvalidInputError: another value of `of`.

    References:
        Weiss, Torralba & Fergus, "Spectral hashing", NIPS 2008, whose constraint it relaxes; off-diagonal correlations
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
