"""Graph regularised hashing with Gaussian-kernel support vector machines (Moran & Lavrenko, ECIR 2015)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.graph_regularisation import regularise
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import gaussian_kernel, mean_squared_distance
from deephash.functional.support_vectors import rbf_svm
from deephash.projections.base import Projection
from deephash.projections.grh import InitialProjection, build_initial
from deephash.projections.lsh import LSH
from deephash.validation import InvalidInputError, check_count, check_fraction, check_positive

# Rows whose kernel values with 5,000 anchors are held at a time, 40 MB of float32.
BLOCK_ROWS = 2048


@final
class GRHRBF(Projection):
    """GRH whose machines have the Gaussian kernel: a bit's boundary bends around groups of neighbours.

    As GRH, each round lets neighbours agree on their bits and then learns those from the features; here by an
    expansion over the labelled items, so that encoding an item costs its distances to all of them.
    Known weakness: that cost, and a fit that grows faster than the square of the items; both are bounded by `anchors`.

    Shape:
        features (n, d) → projections (n, k), the machines' margins.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most what the initial projection can give.
        initial: the projection to start from, or what makes one of (input_dim, output_dim); random hyperplanes. It is
            fitted with this, gives L₀, and is no part of the map that is learnt: its weights are not kept.
        rounds: how often graph step and machines alternate, 1 to 5 in the paper. From class
            labels one is enough: the machines repeat the classes' bits, and further rounds add their mistakes.
        alpha: α, the share of the neighbours' bits against the initial ones, .1 to 1 in the paper.
            Among classes it has to exceed ½ before an item can be outvoted; with 1 each class comes to share its bits.
        cost: C of the machines, .01 to 100 in the paper; 3 and γ of 2 were best on validation queries.
        gamma: γ of the kernel exp(-γ ‖x - y‖² / m), .001 to 10 in the paper; m, the mean squared distance between
            items, makes it independent of the features' scale.
        anchors: most items that the machines are fitted on and expand over; of more, so many are drawn at random.
            `fit` lowers it to the number of items where those are fewer.

    Raises:
        InvalidInputError: rounds or anchors below 1, alpha outside [0, 1], cost or gamma not above 0, or an initial
            projection that cannot be built or fitted with these dimensions and this supervision; in `fit`, items that
            are all the same.

    References:
        Moran & Lavrenko, "Graph regularised hashing", ECIR 2015.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True

    initial: Projection

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
        super().__init__(input_dim, output_dim)
        check_count(rounds, "rounds")
        check_fraction(alpha, "alpha")
        check_positive(cost, "cost")
        check_positive(gamma, "gamma")
        check_count(anchors, "anchors")
        # Not registered as a submodule: the map that is learnt has no weight of it to train or to save.
        object.__setattr__(self, "initial", build_initial(initial, input_dim, output_dim))
        self.rounds = rounds
        self.alpha = alpha
        self.cost = cost
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
        assert affinity is not None
        self.initial.to(self.bias).fit(features, labels=labels, affinity=affinity, generator=generator)
        if len(features) > self.anchors:
            rows = torch.randperm(len(features), generator=generator)[: self.anchors]
            affinity, features = affinity.subset(rows), features[rows.to(features.device)]
        squared = mean_squared_distance(features, features)
        if squared == 0:
            raise InvalidInputError(
                f"all {len(features)} training items are the same, so a kernel of their distances has no bandwidth; "
                "give data that vary."
            )
        self.anchors = len(features)
        self.centres = nn.Parameter(features.to(self.bias, copy=True))
        self.bandwidth.fill_((squared / (2 * self.gamma)) ** 0.5)

        def learn(bits: Tensor) -> Tensor:
            coefficients, bias = rbf_svm(features, bits, self.cost, float(self.bandwidth))
            self.coefficients = nn.Parameter(coefficients.to(self.bias))
            self.bias.copy_(bias)
            return torch.cat([self(rows) for rows in torch.split(features, BLOCK_ROWS)]) >= 0

        regularise(affinity, self.initial(features) >= 0, self.alpha, self.rounds, learn)
