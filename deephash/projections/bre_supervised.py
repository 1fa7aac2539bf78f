"""Binary reconstructive embeddings of labels (Kulis & Darrell, NIPS 2009)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.reconstructive_embedding import ReconstructiveEmbedding, distinct_pairs

BLOCK_ROWS = 1024


def draw_pairs(affinity: TrainingAffinity, near: int, far: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pair each item with neighbours and with other items, both drawn at random.

    Args:
        affinity: affinity among the n items; must be symmetric.
        near: maximum number of neighbours per item.
        far: maximum number of other items per item.
        generator: CPU generator.

    Returns:
        Distinct pairs, int64 (p, 2); and their target distances, 0 for neighbours and 1 for others, float32 (p,).
    """
    drawn: tuple[list[Tensor], list[Tensor]] = ([], [])
    for rows in torch.split(torch.arange(len(affinity)), BLOCK_ROWS):
        neighbours = affinity.among(rows)
        itself = torch.arange(len(rows)), rows
        for kind, (candidates, count) in enumerate(((neighbours, near), (~neighbours, far))):
            candidates[itself] = False
            keys = torch.rand(candidates.shape, generator=generator).where(candidates, -1)
            order = keys.topk(min(count, candidates.shape[1]), 1)
            place, column = torch.nonzero(order.values >= 0, as_tuple=True)
            drawn[kind].append(torch.stack([rows[place], order.indices[place, column]], 1))
    close, apart = (distinct_pairs(torch.cat(pairs)) for pairs in drawn)
    return torch.cat([close, apart]), torch.cat([torch.zeros(len(close)), torch.ones(len(apart))])


@final
class BRESupervised(ReconstructiveEmbedding):
    """Supervised binary reconstructive embeddings: learns kernel hyperplanes whose codes agree for neighbours.

    The target distance of a pair is 0 for neighbours and 1 for other items. The exact coordinate descent of BRE fits
    the codes to these targets.
    Known weakness: with more than two classes, codes cannot differ in all bits, so the targets cannot be met, and pairs
    that are already far apart still add to the loss. KSH has the same aim and does better.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, the b of the paper.
        anchors: size m of the pool of training items from which hash functions draw their anchors; 300, as in the
            comparison of KSH. `fit` lowers it to the number of training items.
        points: number of anchors s of a hash function; 50 as in the paper.
        near: number of random neighbours that each item is paired with.
        far: number of random other items that each item is paired with.
        sweeps: sweeps of coordinate descent; after 3 the loss falls by less than 1 % per sweep.
        training_items: maximum number of items to learn from; more are sampled at random.

    Attributes:
        losses: float64 (sweeps + 1,), the mean of (target - Hamming / k)² over the pairs at the random start and after
            each sweep; it never rises.

    Raises:
        InvalidInputError: a size is below 1; in `fit`, the affinity is missing, or all items are the same.

    References:
        Kulis & Darrell, "Learning to hash with binary reconstructive embeddings", NIPS 2009.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})

    def target_distances(
        self, features: Tensor, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return pairs of neighbours with distance 0 and pairs of other items with distance 1."""
        assert affinity is not None
        return draw_pairs(affinity, self.near, self.far, generator)
