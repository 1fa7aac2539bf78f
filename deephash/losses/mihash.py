"""MIHash: mutual information between distances and neighbourhood (Cakir, He, Bargal & Sclaroff, ICCV 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.soft_histogram import check_bins, soft_histogram
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


def negative_entropy(shares: Tensor) -> Tensor:
    """Σ p log p over the last axis, in nats, its slope held finite where a share is 0."""
    return (shares * shares.clamp_min(torch.finfo(shares.dtype).eps).log()).sum(-1)


def mutual_information(neighbours: Tensor, others: Tensor) -> Tensor:
    """I(D; C) of the distance D to an item and whether it is a neighbour, C, from their histograms.

    Args:
        neighbours: floating (q, bins), neighbours at each distance.
        others: (q, bins), the other items at each distance.

    Returns:
        (q,), nats, from 0 to the entropy of C, which it reaches where no distance holds items of both kinds.
    """
    joint = torch.stack([neighbours, others], 1)
    joint = joint / joint.sum((1, 2), keepdim=True).clamp_min(1)
    distance, kind = joint.sum(1), joint.sum(2)
    return negative_entropy(joint.flatten(1)) - negative_entropy(distance) - negative_entropy(kind)


@final
class MIHash(Loss):
    """Minus the mutual information between the distance from an item and whether what lies there is its neighbour.

    The histograms of neighbours and of others are driven apart, with no margin to choose. Known weakness: information
    does not know which way round they lie; a start at which neighbours are mostly the nearer ones decides that.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [-log 2, 0], nats. An item with neighbours alone or none in the
        batch tells nothing and is left out.

    Args:
        bins: of the distance histogram; None for one for each distance, l + 1, which is exact for hard codes. Fewer are
            smoother.

    Raises:
        InvalidInputError: fewer than 2 bins.

    References:
        Cakir, He, Bargal & Sclaroff, "MIHash: online hashing with mutual information", ICCV 2017, and "Hashing with
        mutual information", TPAMI 2019.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, bins: int | None = None) -> None:
        super().__init__()
        check_bins(bins)
        self.bins = bins

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Minus the mean mutual information of the items that have both kinds."""
        assert batch.neighbours is not None
        length = batch.codes.shape[1]
        neighbours, others = batch.neighbours & batch.others, ~batch.neighbours & batch.others
        information = mutual_information(
            soft_histogram(batch.distances, neighbours, length, self.bins),
            soft_histogram(batch.distances, others, length, self.bins),
        )
        queries = neighbours.any(1) & others.any(1)
        return -(information * queries).sum() / queries.sum().clamp_min(1)
