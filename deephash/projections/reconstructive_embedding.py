"""The base class of binary reconstructive embeddings (Kulis & Darrell, NIPS 2009): hash functions and their search."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.projections.kernel_projection import KernelProjection
from deephash.projections.learner import draw_items
from deephash.validation import check_count


def distinct_pairs(pairs: Tensor) -> Tensor:
    """Return the pairs of different items, each once and in ascending order; int64 (p, 2) → (q, 2)."""
    ordered = pairs.sort(1).values
    distinct: Tensor = torch.unique(ordered[ordered[:, 0] != ordered[:, 1]], dim=0)
    return distinct


def reconstruct_distances(
    kernel: Tensor, pairs: Tensor, targets: Tensor, bits: int, points: int, sweeps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Fit kernel hyperplanes whose Hamming distances, divided by b, are near the targets, by coordinate descent.

    Args:
        kernel: centred kernel values of the items, floating (n, m).
        pairs: int64 (p, 2), rows of the two items of each pair; no pair occurs twice.
        targets: floating (p,), the target distances.
        bits: number of hash functions b.
        points: number of anchors s of each hash function, drawn at random.
        sweeps: number of times that each weight is set to its best value, with the others fixed.
        generator: CPU generator of the anchors, their initial weights and the order of the updates.

    Returns:
        W float64 (m, b), with s non-zero entries per column; and the mean of (target - Hamming / b)² at the start and
        after each sweep, float64 (sweeps + 1,). It never rises.
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


class ReconstructiveEmbedding(KernelProjection):
    """Kernel hyperplanes fitted to target distances of pairs of items.

    Subclasses implement `target_distances`, and document the arguments and attributes.
    """

    losses: Tensor
    points: int
    near: int
    far: int
    sweeps: int
    training_items: int

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
        super().__init__(input_dim, output_dim, anchors, "random")
        sizes = {"points": points, "near": near, "far": far, "sweeps": sweeps, "training_items": training_items}
        for name, size in sizes.items():
            check_count(size, name)
            setattr(self, name, size)
        self.register_buffer("losses", torch.zeros(sweeps + 1, dtype=torch.float64))

    @abstractmethod
    def target_distances(
        self, features: Tensor, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return distinct pairs of items, int64 (p, 2), and the target distance in [0, 1] of each, floating (p,)."""

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        features, affinity = draw_items(features, affinity, self.training_items, generator)
        kernel = self._fit_kernel(features, generator, self.training_items)
        pairs, targets = self.target_distances(features, affinity, generator)
        weights, losses = reconstruct_distances(
            kernel, pairs, targets, self.output_dim, self.points, self.sweeps, generator
        )
        self.weights = nn.Parameter(weights.to(self.weights))
        self.losses.copy_(losses)
