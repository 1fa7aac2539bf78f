"""Self-taught hashing of items with known neighbours, by kernel machines, as in Moran & Lavrenko (ECIR 2015)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.laplacian_eigenmap import balanced_bits, build_affinity_graph, smoothest_vectors
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import gaussian_kernel
from deephash.functional.scaled_machines import squared_kernel_scale
from deephash.functional.support_vectors import rbf_svm
from deephash.projections.base import Projection
from deephash.projections.learner import draw_items
from deephash.validation import check_count, check_directions, check_positive


@final
class STHRBF(Projection):
    """Self-taught hashing with kernel machines: learns bits from a graph of known neighbours.

    This is STH in the setting of the paper on graph regularised hashing, where it learns from the same labelled items
    as the methods it is compared with. The graph joins known neighbours, for example items that share a label, and the
    weight of an edge is the cosine of its two items. If neighbours are items of one class, the graph falls into one
    part per class: the first bits separate classes, and the others spread each class along its own eigenvectors.
    Machines with a Gaussian kernel then learn the bits.
    Known weakness: the later bits carry no information about the class, so codes longer than the number of classes are
    not better. Encoding compares an item with every training item.

    Shape:
        features (n, d) → projections (n, k), the signed outputs of the machines.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        items: maximum number of training items to use; more are sampled at random, because the kernel and, with few
            classes, the graph are full matrices. `fit` lowers it to the number of items if there are fewer.
        cost: C of the machines; `cost` and `width` were chosen on validation items of CIFAR-10 GIST.
        width: σ of the kernel, in units of the root mean square distance between training items.

    Raises:
        InvalidInputError: items is below 1, or cost or width is not above 0; in `fit`, there are more projections than
            n - 2, or all items are the same.

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
        features, affinity = draw_items(features, affinity, self.items, generator)
        assert affinity is not None
        n = len(features)
        check_directions(self.output_dim, n - 2, f"of a graph of {n} items")
        bandwidth = self.width * squared_kernel_scale(features, features) ** 0.5
        bits = balanced_bits(smoothest_vectors(build_affinity_graph(features, affinity), features, self.output_dim))
        coefficients, bias = rbf_svm(features, bits.to(features.device), self.cost, bandwidth)
        self.items = n
        self.support = nn.Parameter(features.to(self.support, copy=True))
        self.coefficients = nn.Parameter(coefficients.to(self.coefficients))
        self.bandwidth.fill_(bandwidth)
        self.bias.copy_(bias)
