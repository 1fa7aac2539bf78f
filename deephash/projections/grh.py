"""Graph regularised hashing with linear support vector machines (Moran & Lavrenko, ECIR 2015)."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.affinity.graph_regularisation import regularise
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import feature_mean
from deephash.functional.scaled_machines import centred_machines
from deephash.projections.graph_regularised import GraphRegularised, InitialProjection
from deephash.projections.lsh import LSH


@final
class GRH(GraphRegularised):
    """Graph regularised hashing: learns hyperplanes whose bits neighbours agree on.

    Training starts from the bits of any projection. In each round, every item takes the majority bits of its
    neighbours. A linear support vector machine per bit then learns the result from the features. In the end,
    neighbours lie on the same side of most hyperplanes.
    Known weakness: a hyperplane cannot follow groups of neighbours that are not linearly separable; see GRHRBF.

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
            neighbours can outvote an item only if α exceeds ½; with 1 all items of a class get the same bits. The
            default was chosen on validation queries; .75 was better when starting from ITQ+CCA, which already uses
            the labels.
        cost: C of the machines, .01 to 100 in the paper, for features scaled to unit total variance, so that their
            scale does not matter; .3 was best on validation queries with 2,000 labelled items.

    Raises:
        InvalidInputError: rounds is below 1, alpha is outside [0, 1], cost is not above 0, or the initial projection
            cannot be built or fitted with these dimensions and this supervision; in `fit`, all items are the same.

    References:
        Moran & Lavrenko, "Graph regularised hashing", ECIR 2015; the graph step is the score
        regularisation of Diaz, "Regularizing query-based retrieval scores", Information Retrieval 2007.
    """

    mean: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        initial: InitialProjection = LSH,
        rounds: int = 1,
        alpha: float = 1.0,
        cost: float = 0.3,
    ) -> None:
        super().__init__(input_dim, output_dim, initial, rounds, alpha, cost)
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
        self.initial.to(self.bias).fit(features, labels=labels, affinity=affinity, generator=generator)
        self.mean.copy_(feature_mean(features))

        def learn(bits: Tensor) -> Tensor:
            directions, bias = centred_machines(features, self.mean, bits, self.cost)
            self.directions.copy_(directions)
            self.bias.copy_(bias)
            margins: Tensor = self(features)
            return margins >= 0

        regularise(affinity, self.initial(features) >= 0, self.alpha, self.rounds, learn)
