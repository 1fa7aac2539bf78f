"""Binary reconstructive embeddings of the distances between features (Kulis & Darrell, NIPS 2009)."""

from typing import final

import torch
from torch import Tensor

from deephash.affinity.euclidean import as_array, find_nearest
from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.reconstructive_embedding import ReconstructiveEmbedding, distinct_pairs


def scale_to_unit_range(features: Tensor) -> Tensor:
    """Centre features and scale each row to length 1/√2, so that ½‖x - y‖² = (1 - cos) / 2 lies in [0, 1].

    Hamming distances divided by the number of bits are in the same range, and if bits are balanced, both distances have
    mean 1/2. With rows of
    unit length, ½‖x - y‖² would reach 2, which no code can reproduce.
    """
    centred = features - features.mean(0, dtype=torch.float64).to(features.dtype)
    return torch.nn.functional.normalize(centred, dim=1) / 2**0.5


def pair_with_near_and_random(features: Tensor, near: int, far: int, generator: torch.Generator) -> Tensor:
    """Pair each item with its nearest items and with items drawn at random.

    Args:
        features: floating (n, d).
        near: number of nearest items.
        far: number of random items.
        generator: CPU generator.

    Returns:
        int64 (p, 2), distinct pairs.
    """
    n = len(features)
    data = as_array(features)
    neighbours = torch.from_numpy(find_nearest(data, data, min(near + 1, n))[0])
    partners = torch.cat([neighbours, torch.randint(n, (n, far), generator=generator)], 1)
    return distinct_pairs(torch.stack([torch.arange(n)[:, None].expand_as(partners), partners], 2).reshape(-1, 2))


@final
class BRE(ReconstructiveEmbedding):
    """Binary reconstructive embeddings: learns kernel hyperplanes whose Hamming distances reproduce feature distances.

    The loss compares the binary codes themselves with ½‖x_i - x_j‖², without a relaxation. Coordinate descent sets one
    weight at a time to the best value for all pairs. It finds this value exactly, by visiting the values at which a bit
    flips. Each item is paired with its nearest items, because retrieval needs those, and with random items.
    Known weakness: the search for each weight passes over all pairs, so codes are learnt from a few thousand items; and
    it ends in a local minimum near its start.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, the b of the paper.
        anchors: size m of the pool of training items from which hash functions draw their anchors; 300, as in the
            comparison of KSH. `fit` lowers it to the number of training items.
        points: number of anchors s of a hash function; 50 as in the paper.
        near: number of nearest items that each item is paired with.
        far: number of random items that each item is paired with.
        sweeps: sweeps of coordinate descent; after 3 the loss falls by less than 1 % per sweep.
        training_items: maximum number of items to learn from; more are sampled at random.

    Attributes:
        losses: float64 (sweeps + 1,), the mean of (½‖x_i - x_j‖² - Hamming / k)² over the pairs at the random start and
            after each sweep; it never rises.

    Raises:
        InvalidInputError: a size is below 1; in `fit`, all items are the same.

    References:
        Kulis & Darrell, "Learning to hash with binary reconstructive embeddings", NIPS 2009.
    """

    def target_distances(
        self, features: Tensor, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return near and random pairs, and ½‖x_i - x_j‖² of the scaled features."""
        scaled = scale_to_unit_range(features).cpu()
        pairs = pair_with_near_and_random(scaled, self.near, self.far, generator)
        targets = [
            (scaled[block[:, 0]] - scaled[block[:, 1]]).square().sum(1) / 2 for block in torch.split(pairs, 2**16)
        ]
        return pairs, torch.cat(targets)
