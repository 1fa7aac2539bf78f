"""Cosines of features kept by codes, the objective of bi-half hashing (Li & van Gemert, AAAI 2021)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch

# Codes shorter than this are not stretched to unit length, which would make their slopes as large as they are small.
SHORTEST = 1e-3


def cosines(vectors: Tensor, shortest: float = 0.0) -> Tensor:
    """Cosine of each pair of rows, 0 with a row of zeros.

    Args:
        vectors: floating (n, d).
        shortest: length up to which a row counts as that long.

    Returns:
        (n, n).
    """
    directions = functional.normalize(vectors, eps=max(shortest, torch.finfo(vectors.dtype).tiny))
    return directions @ directions.T


@final
class SimilarityPreserving(Loss):
    """Mean over pairs of items of (cos(x, x') - cos(u, u'))², of features x and codes u.

    It needs neither labels nor neighbours: what lies at an angle as features shall lie at that angle as codes, and the
    Hamming distance of bits is their angle's cosine. Known weakness: it takes the cosine of features for the truth, so
    features must be worth it; of raw pixels it means little. Features that are all positive have cosines near 1, which
    codes cannot have and be balanced as well, hence the mean that is taken off by default.

    Shape:
        codes (n, l), features (n, d) → scalar in [0, 4]; 0 where there is no pair.

    Args:
        centred: whether the batch's mean is taken off the features first; the paper, whose features are those of a
            network after a ReLU, takes them as they are.

    References:
        Li & van Gemert, "Deep unsupervised image hashing by maximizing bit entropy", AAAI 2021, whose code draws some
        pairs of a batch where this takes all.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"one_view"})

    def __init__(self, centred: bool = True) -> None:
        super().__init__()
        self.centred = centred

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared difference of cosines over pairs of different items."""
        n = len(batch)
        features = batch.features.to(batch.codes.dtype)
        if self.centred:
            features = features - features.mean(0)
        differences = cosines(features) - cosines(batch.codes, SHORTEST)
        return (differences.square() * batch.others).sum() / max(1, n * (n - 1))
