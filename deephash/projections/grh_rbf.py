"""Graph regularised hashing with Gaussian-kernel support vector machines (Moran & Lavrenko, ECIR 2015)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.graph_regularisation import regularise
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import gaussian_kernel
from deephash.functional.scaled_machines import squared_kernel_scale
from deephash.functional.support_vectors import rbf_svm
from deephash.projections.graph_regularised import GraphRegularised, InitialProjection
from deephash.projections.learner import draw_items
from deephash.projections.lsh import LSH
from deephash.validation import check_count, check_positive

# Number of rows whose kernel values are held at a time: 40 MB of float32 with 5,000 anchors.
BLOCK_ROWS = 2048


@final
class GRHRBF(GraphRegularised):
    """Graph regularised hashing with kernel machines: learns curved boundaries that give neighbours the same bits.

    As in GRH, every item takes the majority bits of its neighbours in each round, and one machine per bit learns the
    result. Here the machines have a Gaussian kernel and expand over the labelled items, so that a boundary can bend
    around groups of neighbours.
    Known weakness: encoding an item needs its distances to all these items, and the time of a fit grows faster than
    the square of their number; `anchors` bounds both.

    Shape:
        features (n, d) → projections (n, k), the margins of the machines.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most what the initial projection supports.
        initial: the projection to start from, or a callable that builds one from (input_dim, output_dim); random
            hyperplanes (LSH) by default. It is fitted first and gives the bits L₀. Its weights are not kept.
        rounds: number of alternations of graph step and machines, 1 to 5 in the paper. With class labels one round is
            enough: the machines reproduce the bits of the classes, and further rounds add the machines' mistakes.
        alpha: α, the weight of the neighbours' bits against the initial bits, .1 to 1 in the paper. With classes,
            neighbours can outvote an item only if α exceeds ½; with 1 all items of a class get the same bits.
        cost: C of the machines, .01 to 100 in the paper; 3, with γ = 2, was best on validation queries.
        gamma: γ of the kernel exp(-γ ‖x - y‖² / m), .001 to 10 in the paper; m is the mean squared distance between
            items, which makes γ independent of the scale of the features.
        anchors: maximum number of items that the machines are fitted on and expand over; more items are sampled at
            random. `fit` lowers it to the number of items if there are fewer.

    Raises:
        InvalidInputError: rounds or anchors is below 1, alpha is outside [0, 1], cost or gamma is not above 0, or the
            initial projection cannot be built or fitted with these dimensions and this supervision; in `fit`, all
            items are the same.

    References:
        Moran & Lavrenko, "Graph regularised hashing", ECIR 2015.
    """

    samples_rows: ClassVar[bool] = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        initial: InitialProjection = LSH,
        rounds: int = 1,
        alpha: float = 1.0,
        cost: float = 3.0,
        gamma: float = 2.0,
        anchors: int = 5000,
    ) -> None:
        super().__init__(input_dim, output_dim, initial, rounds, alpha, cost)
        check_positive(gamma, "gamma")
        check_count(anchors, "anchors")
        self.gamma = gamma
        self.anchors = anchors
        self.centres = nn.Parameter(torch.zeros(anchors, input_dim))
        self.bandwidth = nn.Parameter(torch.ones(()))
        self.coefficients = nn.Parameter(torch.zeros(anchors, output_dim))
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Margins k(X, A) α + β."""
        return gaussian_kernel(features, self.centres, self.bandwidth) @ self.coefficients + self.bias

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        self.initial.to(self.bias).fit(features, labels=labels, affinity=affinity, generator=generator)
        features, affinity = draw_items(features, affinity, self.anchors, generator)
        assert affinity is not None
        squared = squared_kernel_scale(features, features)
        self.anchors = len(features)
        self.centres = nn.Parameter(features.to(self.bias, copy=True))
        self.bandwidth.fill_((squared / (2 * self.gamma)) ** 0.5)

        def learn(bits: Tensor) -> Tensor:
            coefficients, bias = rbf_svm(features, bits, self.cost, float(self.bandwidth))
            self.coefficients = nn.Parameter(coefficients.to(self.bias))
            self.bias.copy_(bias)
            return torch.cat([self(rows) for rows in torch.split(features, BLOCK_ROWS)]) >= 0

        regularise(affinity, self.initial(features) >= 0, self.alpha, self.rounds, learn)
