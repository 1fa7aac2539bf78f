"""Self-taught hashing (Zhang, Wang, Cai & Lu, SIGIR 2010)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.laplacian_eigenmap import balanced_bits, smoothest_vectors
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.neighbour_graph import nearest_neighbours, symmetric_graph
from deephash.functional.principal_components import feature_mean, root_mean_square
from deephash.functional.support_vectors import linear_svm
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count, check_directions, check_positive


@final
class STH(Projection):
    """Bits of the training items from their graph of neighbours, then a machine that predicts each bit.

    First, without looking for a function of the features, the items' best codes: the smoothest functions on the graph
    of nearest neighbours (the Laplacian eigenmap), cut at their medians so that each bit halves the items. Then one
    linear support vector machine a bit teaches itself these labels; its output is the projection.
    Known weakness: exact neighbours of n items cost n² d operations, too many from a few hundred thousand items; later
    eigenvectors vary faster than a hyperplane can follow.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        neighbours: nearest neighbours of an item in the graph; 25 as in the paper, fewer where there are fewer rows.
        cost: C of the machines, on features of mean squared length 1.

    Raises:
        InvalidInputError: neighbours below 1, a cost not above 0; in `fit`, more projections than n - 2, or rows that
            are all the same.

    References:
        Zhang, Wang, Cai & Lu, "Self-taught hashing for fast similarity search", SIGIR 2010.
    """

    minimum_rows: ClassVar[int] = 3

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int, neighbours: int = 25, cost: float = 1.0) -> None:
        super().__init__(input_dim, output_dim)
        check_count(neighbours, "neighbours")
        check_positive(cost, "cost")
        self.neighbours = neighbours
        self.cost = cost
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W + β, the signed distances from the hyperplanes, to the scale of each."""
        return project_centred(features, self.mean, self.directions) + self.bias

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        check_directions(self.output_dim, len(features) - 2, f"of a graph of {len(features)} items")
        mean = feature_mean(features)
        scale = root_mean_square(features, mean)
        if scale == 0:
            raise InvalidInputError(f"all {len(features)} training items are the same; give data that vary.")
        graph = symmetric_graph(nearest_neighbours(features, min(self.neighbours, len(features) - 1)))
        bits = balanced_bits(smoothest_vectors(graph, features, self.output_dim)).to(features.device)
        directions, bias = linear_svm(features, bits, self.cost / scale**2)
        self.mean.copy_(mean)
        self.directions.copy_(directions)
        self.bias.copy_(bias + mean.to(directions) @ directions)
