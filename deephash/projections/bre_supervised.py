"""Binary reconstructive embeddings of labels (Kulis & Darrell, NIPS 2009)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.reconstructive_embedding import ReconstructiveEmbedding, distinct_pairs

BLOCK_ROWS = 1024


def drawn_pairs(affinity: TrainingAffinity, near: int, far: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each item with neighbours and with other items, both drawn at random, as many as there are up to a number.

    Args:
        affinity: among the n items; taken to be symmetric.
        near: most neighbours of an item.
        far: most others.
        generator: CPU generator.

    Returns:
        Distinct pairs, int64 (p, 2); and their target distances, 0 for neighbours and 1 for the others, float32 (p,).
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
    """Kernel hyperplanes whose codes agree for neighbours and differ for other items.

    The supervised form of BRE: the distance that a pair is to have is 0 for neighbours and 1 for others,
    and the same exact coordinate descent fits the codes to it. Known weakness: no codes of several classes differ
    in all bits, so the targets cannot be met, and pairs far apart already go on costing; KSH, which asks for the same,
    does better.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, the b of the paper.
        anchors: size m of the pool of training items that hash functions draw theirs from; 300, as KSH compares.
            `fit` lowers it to the number of training items.
        points: anchors s of a hash function; 50 as in the paper.
        near: neighbours drawn at random that each item is paired with.
        far: other items drawn at random that each is paired with.
        sweeps: rounds of coordinate descent; 3, after which the loss falls by less than 1 % a round.
        training_items: items that are learnt from, drawn at random where there are more.

    Attributes:
        losses: float64 (sweeps + 1,), the mean of (target - Hamming / k)² over the pairs at the random start and after
            each round; it never rises.

    Raises:
        InvalidInputError: a size below 1; in `fit`, no affinity, or items that are all the same.

    References:
        Kulis & Darrell, "Learning to hash with binary reconstructive embeddings", NIPS 2009.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})

    def wanted_distances(
        self, features: Tensor, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Pairs of neighbours at distance 0, of other items at distance 1."""
        assert affinity is not None
        return drawn_pairs(affinity, self.near, self.far, generator)
