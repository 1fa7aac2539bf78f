"""Codes that keep the cosines of features, the objective of bi-half hashing (Li & van Gemert, AAAI 2021)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch

# Shorter codes are not scaled to unit length, because their gradients would be very large.
SHORTEST = 1e-3


def pairwise_cosines(vectors: Tensor, shortest: float = 0.0) -> Tensor:
    """Cosine of each pair of rows, 0 with a row of zeros.

    Args:
        vectors: floating (n, d).
        shortest: shorter rows are divided by this length instead of their own.

    Returns:
        (n, n).
    """
    directions = functional.normalize(vectors, eps=max(shortest, torch.finfo(vectors.dtype).tiny))
    return directions @ directions.T


@final
class SimilarityPreserving(Loss):
    """Similarity-preserving hashing: makes the cosines of codes equal to the cosines of features, without labels.

    The loss is the mean of (cos(x, x') - cos(u, u'))² over pairs of items with features x and codes u. The cosine of
    hard codes determines their Hamming distance.
    Known weakness: cosines of features must be meaningful, which those of raw pixels are not. Cosines of features that
    are all positive are near 1, which balanced codes cannot reproduce, so by default the mean is subtracted first.

    Shape:
        codes (n, l), features (n, d) → scalar in [0, 4]; 0 if there is no pair.

    Args:
        centred: whether the mean of the batch is subtracted from the features; the paper, with features of a network
            after a ReLU, does not subtract it.

    References:
        Li & van Gemert, "Deep unsupervised image hashing by maximizing bit entropy", AAAI 2021. Their code samples
        pairs of a batch; this loss uses all pairs.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"one_view"})

    def __init__(self, centred: bool = True) -> None:
        super().__init__()
        self.centred = centred

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared difference of cosines over pairs of different items."""
        features = batch.features.to(batch.codes.dtype)
        if self.centred:
            features = features - features.mean(0)
        differences = pairwise_cosines(features) - pairwise_cosines(batch.codes, SHORTEST)
        return masked_mean(differences.square(), batch.others)
