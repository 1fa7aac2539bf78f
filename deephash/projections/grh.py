"""Graph regularised hashing with linear support vector machines (Moran & Lavrenko, ECIR 2015)."""

from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.graph_regularisation import regularise
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import feature_mean, root_mean_square
from deephash.functional.support_vectors import linear_svm
from deephash.projections.base import Projection
from deephash.projections.lsh import LSH
from deephash.validation import InvalidInputError, check_count, check_fraction, check_positive

InitialProjection = Projection | Callable[[int, int], Projection]


def build_initial(initial: InitialProjection, input_dim: int, output_dim: int) -> Projection:
    """The projection whose bits are refined, refused where it has other dimensions.

    Args:
        initial: a projection, or what makes one of (input_dim, output_dim): its class, or a partial of it.
        input_dim: feature dimension d.
        output_dim: number of projections k.

    Raises:
        InvalidInputError: another d or k; or whatever the projection refuses, as more directions than it can give.
    """
    built = initial if isinstance(initial, Projection) else initial(input_dim, output_dim)
    if (built.input_dim, built.output_dim) != (input_dim, output_dim):
        raise InvalidInputError(
            f"initial={type(built).__name__} maps {built.input_dim} dimensions to {built.output_dim} projections; "
            f"expected {input_dim} and {output_dim}, as this is built for."
        )
    return built


@final
class GRH(Projection):
    """Bits that neighbours agree on, learnt from the features by a linear support vector machine each.

    It starts from the bits of any projection. Each round lets every item's bits go with the majority of its
    neighbours', then fits a hyperplane a bit to what came out. Neighbours thus end on the same side of most
    hyperplanes, whatever the first ones were.
    Known weakness: a hyperplane cannot follow groups of neighbours that are not linearly separable; see GRHRBF.

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
            Chosen on validation queries; from ITQ+CCA, which the labels have shaped already, .75 was better.
        cost: C of the machines, .01 to 100 in the paper, for features scaled to unit total variance, so that their
            scale does not matter; .3 was best on validation queries, of 2,000 labelled items.

    Raises:
        InvalidInputError: rounds below 1, alpha outside [0, 1], cost not above 0, or an initial projection that
            cannot be built or fitted with these dimensions and this supervision.

    References:
        Moran & Lavrenko, "Graph regularised hashing", ECIR 2015; the graph step is score regularisation,
        Diaz, "Regularizing query-based retrieval scores", Information Retrieval 2007.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    minimum_rows: ClassVar[int] = 2

    mean: Tensor
    initial: Projection

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        initial: InitialProjection = LSH,
        rounds: int = 1,
        alpha: float = 1.0,
        cost: float = 0.3,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(rounds, "rounds")
        check_fraction(alpha, "alpha")
        check_positive(cost, "cost")
        # Not registered as a submodule: the map that is learnt has no weight of it to train or to save.
        object.__setattr__(self, "initial", build_initial(initial, input_dim, output_dim))
        self.rounds = rounds
        self.alpha = alpha
        self.cost = cost
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Margins (X - μ) W + β."""
        return project_centred(features, self.mean, self.directions) + self.bias

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        self.initial.to(self.mean).fit(features, labels=labels, affinity=affinity, generator=generator)
        self.mean.copy_(feature_mean(features))
        scale = root_mean_square(features, self.mean)
        if scale == 0:
            raise InvalidInputError(
                f"all {len(features)} training items are the same, so no hyperplane parts them; give data that vary."
            )

        def learn(bits: Tensor) -> Tensor:
            directions, bias = linear_svm(features, bits, self.cost / scale**2)
            self.directions.copy_(directions)
            self.bias.copy_(bias + self.mean.to(directions) @ directions)
            margins: Tensor = self(features)
            return margins >= 0

        regularise(affinity, self.initial(features) >= 0, self.alpha, self.rounds, learn)
