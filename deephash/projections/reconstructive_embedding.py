"""What both binary reconstructive embeddings (Kulis & Darrell, NIPS 2009) share: hash functions and their search."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.encoders.anchor_map import AnchorMap
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.validation import check_count


def distinct_pairs(pairs: Tensor) -> Tensor:
    """Pairs of different items, each once, whichever way round it was given; int64 (p, 2) → (q, 2)."""
    ordered = pairs.sort(1).values
    distinct: Tensor = torch.unique(ordered[ordered[:, 0] != ordered[:, 1]], dim=0)
    return distinct


def reconstruct_distances(
    kernel: Tensor, pairs: Tensor, targets: Tensor, bits: int, points: int, sweeps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Kernel hyperplanes whose Hamming distances, over b, are near wanted ones, by coordinate descent.

    Args:
        kernel: centred kernel values of the items, floating (n, m).
        pairs: int64 (p, 2), items by row, none twice.
        targets: floating (p,), the distances wanted.
        bits: number of hash functions b.
        points: anchors s that each hash function draws for itself.
        sweeps: times that each weight is set to its best value, the others fixed.
        generator: CPU generator of the anchors drawn, their start weights and the order of the updates.

    Returns:
        W float64 (m, b), s entries of a column not 0; and the mean of (target - Hamming / b)² at the start and after
        each sweep, float64 (sweeps + 1,). It never rises.
    """
    from deephash.functional.reconstructive_search import ReconstructiveSearch

    chosen = [torch.randperm(kernel.shape[1], generator=generator)[:points] for _ in range(bits)]
    start = torch.zeros(kernel.shape[1], bits, dtype=torch.float64)
    for bit, anchors in enumerate(chosen):
        start[anchors, bit] = torch.randn(len(anchors), generator=generator, dtype=torch.float64)
    search = ReconstructiveSearch(
        kernel.detach().cpu().T.numpy(), start.numpy(), pairs.cpu().numpy(), targets.cpu().numpy()
    )
    losses = [search.loss]
    for turn in track(range(sweeps * bits), "BRE"):
        anchors = chosen[turn % bits]
        search.descend(turn % bits, anchors[torch.randperm(len(anchors), generator=generator)].numpy())
        if turn % bits == bits - 1:
            losses.append(search.loss)
    return torch.from_numpy(search.weights.T.copy()), torch.tensor(losses, dtype=torch.float64)


class ReconstructiveEmbedding(Projection):
    """Kernel hyperplanes fitted to wanted distances of pairs of items; a subclass says which.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        anchors: size m of the pool of training items that hash functions draw theirs from; 300, as KSH compares.
            `fit` lowers it to the number of training items.
        points: anchors s of a hash function; 50 as in the paper.
        near: near items that each is paired with.
        far: other items that each is paired with.
        sweeps: rounds of coordinate descent; 3, after which the loss falls by less than 1 % a round.
        training_items: items that are learnt from, drawn at random where there are more.

    Attributes:
        losses: float64 (sweeps + 1,), the mean of (target - Hamming / k)² over the pairs at the random start and after
            each round; it never rises.

    Raises:
        InvalidInputError: a size below 1; in `fit`, items that are all the same.

    References:
        Kulis & Darrell, "Learning to hash with binary reconstructive embeddings", NIPS 2009.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True

    mean: Tensor
    losses: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        anchors: int = 300,
        points: int = 50,
        near: int = 50,
        far: int = 50,
        sweeps: int = 3,
        training_items: int = 5000,
    ) -> None:
        super().__init__(input_dim, output_dim)
        for name, value in (
            ("points", points),
            ("near", near),
            ("far", far),
            ("sweeps", sweeps),
            ("training_items", training_items),
        ):
            check_count(value, name)
        self.kernel = AnchorMap(input_dim, anchors, "random")
        self.anchors = anchors
        self.points = points
        self.near = near
        self.far = far
        self.sweeps = sweeps
        self.training_items = training_items
        self.register_buffer("mean", torch.zeros(anchors))
        self.register_buffer("losses", torch.zeros(sweeps + 1, dtype=torch.float64))
        self.weights = nn.Parameter(torch.zeros(anchors, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(κ(X) - μ) W, κ being the kernel values of the anchors."""
        values: Tensor = self.kernel(features)
        return (values - self.mean) @ self.weights

    @abstractmethod
    def wanted_distances(
        self, features: Tensor, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Distinct pairs of items, int64 (p, 2), and the distance in [0, 1] that each is to have, floating (p,)."""

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        if len(features) > self.training_items:
            rows = torch.randperm(len(features), generator=generator)[: self.training_items]
            features = features[rows.to(features.device)]
            affinity = None if affinity is None else affinity.subset(rows)
        self.anchors = self.kernel.fit(features, generator).anchors
        kernel = self.kernel(features)
        self.mean = kernel.mean(0, dtype=torch.float64).to(self.mean.dtype)
        pairs, targets = self.wanted_distances(features, affinity, generator)
        weights, losses = reconstruct_distances(
            kernel - self.mean, pairs, targets, self.output_dim, self.points, self.sweeps, generator
        )
        self.weights = nn.Parameter(weights.to(self.weights))
        self.losses.copy_(losses)
