"""Self-taught hashing (Zhang, Wang, Cai & Lu, SIGIR 2010)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.laplacian_eigenmap import balanced_bits, smoothest_vectors
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.neighbour_graph import nearest_neighbours, symmetric_graph
from deephash.functional.principal_components import feature_mean
from deephash.functional.scaled_machines import centred_machines
from deephash.projections.linear_projection import LinearProjection
from deephash.validation import check_count, check_directions, check_positive


@final
class STH(LinearProjection):
    """Self-taught hashing: learns bits of the training items from a graph of neighbours, then hyperplanes for them.

    The first stage finds the best codes of the training items without a function of the features: the smoothest
    functions on the graph of nearest neighbours (the Laplacian eigenmap), cut at their medians so that each bit is 1
    for half of the items. In the second stage, one linear support vector machine per bit learns to predict it. The
    output of the machine is the projection.
    Known weakness: exact neighbours of n items cost n² d operations, too many from a few hundred thousand items. Later
    eigenvectors vary faster than a hyperplane can follow.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        neighbours: nearest neighbours of an item in the graph; 25 as in the paper, fewer if there are fewer rows.
        cost: C of the machines, for features of mean squared length 1.

    Raises:
        InvalidInputError: neighbours is below 1, or cost is not above 0; in `fit`, there are more projections than
            n - 2, or all rows are the same.

    References:
        Zhang, Wang, Cai & Lu, "Self-taught hashing for fast similarity search", SIGIR 2010.
    """

    minimum_rows: ClassVar[int] = 3

    def __init__(self, input_dim: int, output_dim: int, neighbours: int = 25, cost: float = 1.0) -> None:
        super().__init__(input_dim, output_dim)
        check_count(neighbours, "neighbours")
        check_positive(cost, "cost")
        self.neighbours = neighbours
        self.cost = cost
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W + β, one hyperplane per bit."""
        return super().forward(features) + self.bias

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        check_directions(self.output_dim, len(features) - 2, f"of a graph of {len(features)} items")
        mean = feature_mean(features)
        graph = symmetric_graph(nearest_neighbours(features, min(self.neighbours, len(features) - 1)))
        bits = balanced_bits(smoothest_vectors(graph, features, self.output_dim)).to(features.device)
        directions, bias = centred_machines(features, mean, bits, self.cost)
        self.mean.copy_(mean)
        self.directions.copy_(directions)
        self.bias.copy_(bias)
