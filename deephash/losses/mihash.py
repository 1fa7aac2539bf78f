"""MIHash: mutual information between distances and neighbourhood (Cakir, He, Bargal & Sclaroff, ICCV 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.masked_mean import masked_mean
from deephash.functional.soft_histogram import check_bins, soft_histogram
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


def negative_entropy(shares: Tensor) -> Tensor:
    """Σ p log p over the last axis, in nats, with a finite slope at p = 0."""
    return (shares * shares.clamp_min(torch.finfo(shares.dtype).eps).log()).sum(-1)


def mutual_information(neighbours: Tensor, others: Tensor) -> Tensor:
    """I(D; C) between the distance D to an item and whether the item is a neighbour, C, from their histograms.

    Args:
        neighbours: floating (q, bins), number of neighbours at each distance.
        others: (q, bins), number of other items at each distance.

    Returns:
        (q,), nats, from 0 to the entropy of C, which is reached if no distance has items of both kinds.
    """
    joint = torch.stack([neighbours, others], 1)
    joint = joint / joint.sum((1, 2), keepdim=True).clamp_min(1)
    distance, kind = joint.sum(1), joint.sum(2)
    return negative_entropy(joint.flatten(1)) - negative_entropy(distance) - negative_entropy(kind)


@final
class MIHash(Loss):
    """Hashing with mutual information: makes the distance between items predict whether they are neighbours.

    The loss is minus the mutual information between distance and neighbourhood, from soft histograms. It drives the
    histograms of neighbours and of others apart, without a margin to choose.
    Known weakness: the information is the same if neighbours are far and others near, so training must start from codes
    in which most neighbours are nearer.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [-log 2, 0], nats. Items with only neighbours or none in the batch
        are left out.

    Args:
        bins: number of bins of the distance histogram; None for one per distance, l + 1, which is exact for hard codes.
            With fewer bins, the loss is smoother.

    Raises:
        InvalidInputError: bins is below 2.

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
        """Minus the mean mutual information of the items with both neighbours and other items."""
        assert batch.neighbours is not None
        length = batch.codes.shape[1]
        neighbours, others = batch.neighbours & batch.others, ~batch.neighbours & batch.others
        information = mutual_information(
            soft_histogram(batch.distances, neighbours, length, self.bins),
            soft_histogram(batch.distances, others, length, self.bins),
        )
        return -masked_mean(information, neighbours.any(1) & others.any(1))
