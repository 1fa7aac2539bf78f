"""Binary reconstructive embeddings of the distances between features (Kulis & Darrell, NIPS 2009)."""

from typing import final

import torch
from torch import Tensor

from deephash.affinity.euclidean import as_array, nearest
from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.reconstructive_embedding import ReconstructiveEmbedding, distinct_pairs


def unit_range(features: Tensor) -> Tensor:
    """Features centred and scaled to length 1/√2 each, so that ½‖x - y‖² = (1 - cos) / 2 lies in [0, 1].

    Hamming distances over b lie there too, and the mean of both is 1/2 where bits are balanced; at unit length the
    distances would come out twice too large for any code.
    """
    centred = features - features.mean(0, dtype=torch.float64).to(features.dtype)
    return torch.nn.functional.normalize(centred, dim=1) / 2**0.5


def near_and_random_pairs(features: Tensor, near: int, far: int, generator: torch.Generator) -> Tensor:
    """Each item with its nearest others and with some drawn at random.

    Args:
        features: floating (n, d).
        near: nearest items.
        far: items drawn.
        generator: CPU generator.

    Returns:
        int64 (p, 2), distinct pairs.
    """
    n = len(features)
    data = as_array(features)
    neighbours = torch.from_numpy(nearest(data, data, min(near + 1, n))[0])
    partners = torch.cat([neighbours, torch.randint(n, (n, far), generator=generator)], 1)
    return distinct_pairs(torch.stack([torch.arange(n)[:, None].expand_as(partners), partners], 2).reshape(-1, 2))


@final
class BRE(ReconstructiveEmbedding):
    """Kernel hyperplanes whose Hamming distances reproduce the distances between features.

    The loss compares binary codes themselves with ½‖x_i - x_j‖², no relaxation between them: a weight at a time is set
    to the value that is best for all pairs, found exactly from the places where a bit flips. Items are paired with
    their nearest, as retrieval asks for those, and with others at random. Known weakness: each weight's search passes
    over all pairs, so the codes are learnt from some thousand items; and it ends in a local minimum near its start.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, the b of the paper.
        anchors: size m of the pool of training items that hash functions draw theirs from; 300, as KSH compares.
            `fit` lowers it to the number of training items.
        points: anchors s of a hash function; 50 as in the paper.
        near: nearest items that each is paired with.
        far: items drawn at random that each is paired with.
        sweeps: rounds of coordinate descent; 3, after which the loss falls by less than 1 % a round.
        training_items: items that are learnt from, drawn at random where there are more.

    Attributes:
        losses: float64 (sweeps + 1,), the mean of (½‖x_i - x_j‖² - Hamming / k)² over the pairs at the random start and
            after each round; it never rises.

    Raises:
        InvalidInputError: a size below 1; in `fit`, items that are all the same.

    References:
        Kulis & Darrell, "Learning to hash with binary reconstructive embeddings", NIPS 2009.
    """

    def wanted_distances(
        self, features: Tensor, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Pairs near and at random, and ½‖x_i - x_j‖² of the features scaled into [0, 1]."""
        scaled = unit_range(features).cpu()
        pairs = near_and_random_pairs(scaled, self.near, self.far, generator)
        targets = [(scaled[some[:, 0]] - scaled[some[:, 1]]).square().sum(1) / 2 for some in torch.split(pairs, 2**16)]
        return pairs, torch.cat(targets)
