"""Self-taught hashing of items with known neighbours, by kernel machines, as in Moran & Lavrenko (ECIR 2015)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.laplacian_eigenmap import affinity_graph, balanced_bits, smoothest_vectors
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import gaussian_kernel, mean_squared_distance
from deephash.functional.support_vectors import rbf_svm
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count, check_directions, check_positive


@final
class STHRBF(Projection):
    """STH whose graph joins known neighbours, as items that share a label, and whose machines have a Gaussian kernel.

    The setting of the graph regularised hashing paper, where STH learns from the same labelled items as its rivals. An
    edge weighs the cosine of the items that it joins. With classes as neighbours the graph falls into one
    part a class: the first bits tell classes apart, the others spread each class along its own eigenvectors.
    Known weakness: those others say nothing of the class, so codes longer than the number of classes gain nothing; and
    every training item is compared with a query.

    Shape:
        features (n, d) → projections (n, k), the signed outputs of the machines.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        items: most training items that are used, drawn at random where there are more: the kernel and, of few classes,
            the graph are whole matrices of them. `fit` lowers it to the number of items there are.
        cost: C of the machines; it and the width were chosen on validation items of CIFAR-10 GIST.
        width: σ of the kernel, in units of the root mean square distance between training items.

    Raises:
        InvalidInputError: items below 1, a cost or width that is not above 0; in `fit`, more projections than n - 2, or
            items that are all the same.

    References:
        Zhang, Wang, Cai & Lu, "Self-taught hashing for fast similarity search", SIGIR 2010; as compared in Moran &
        Lavrenko, "Graph regularised hashing", ECIR 2015.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    minimum_rows: ClassVar[int] = 3
    samples_rows: ClassVar[bool] = True

    def __init__(
        self, input_dim: int, output_dim: int, items: int = 5000, cost: float = 3.0, width: float = 0.4
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(items, "items")
        check_positive(cost, "cost")
        check_positive(width, "width")
        self.items = items
        self.cost = cost
        self.width = width
        self.support = nn.Parameter(torch.zeros(items, input_dim))
        self.coefficients = nn.Parameter(torch.zeros(items, output_dim))
        self.bandwidth = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Kernel values with the training items, times the dual coefficients, plus the bias."""
        return gaussian_kernel(features, self.support, self.bandwidth) @ self.coefficients + self.bias

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None  # `fit` has checked what `requires` names.
        if len(features) > self.items:
            rows = torch.randperm(len(features), generator=generator)[: self.items]
            features, affinity = features[rows.to(features.device)], affinity.subset(rows)
        n = len(features)
        check_directions(self.output_dim, n - 2, f"that the graph of {n} items has")
        squared = mean_squared_distance(features, features)
        if squared == 0:
            raise InvalidInputError(f"all {n} training items are the same, so no kernel has a width; give other data.")
        bits = balanced_bits(smoothest_vectors(affinity_graph(features, affinity), features, self.output_dim))
        bandwidth = self.width * squared**0.5
        coefficients, bias = rbf_svm(features, bits.to(features.device), self.cost, bandwidth)
        self.items = n
        self.support = nn.Parameter(features.to(self.support, copy=True))
        self.coefficients = nn.Parameter(coefficients.to(self.coefficients))
        self.bandwidth.fill_(bandwidth)
        self.bias.copy_(bias)
