"""Regularised cross-modal hashing (Moran & Lavrenko, SIGIR 2015)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.graph_regularisation import regularise
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import feature_mean
from deephash.functional.scaled_machines import centred_machines
from deephash.projections.base import Projection
from deephash.projections.graph_regularised import InitialProjection, build_initial
from deephash.projections.lsh import LSH
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import check_choice, check_count, check_fraction, check_positive


@final
class RCMH(PairedProjection):
    """GRH's bits of one view, learnt by the other too: neighbours' texts agree on their bits, and images follow.

    The lead view's bits start from any projection of it. Each round lets every item's bits go with the majority of its
    neighbours', then fits a hyperplane a bit to what came out. The bits of the last round are what the other view's
    hyperplanes learn, from the same pairs.
    Known weakness: what the lead view cannot tell apart the other one is not asked to; and hyperplanes cannot follow
    groups of neighbours that are not linearly separable.

    Shape:
        features (n, d of the view) → projections (n, k), the machines' margins.

    Args:
        input_dims: feature dimension d of each view by its name.
        output_dim: number of projections k, at most what the initial projection can give.
        lead: the view whose bits are regularised; None for the last, which is the text where image and text come in
            that order, as in the paper.
        initial: the projection of the lead view to start from, or what makes one of (input_dim, output_dim); random
            hyperplanes. It gives L₀, and is no part of the map that is learnt.
        rounds: how often graph step and machines alternate. From class labels one is enough, as in GRH.
        alpha: α, the share of the neighbours' bits against the initial ones. Among classes it has to exceed ½ before an
            item can be outvoted; with 1 each class comes to share its bits.
        cost: C of both views' machines, for features scaled to unit total variance.

    Raises:
        InvalidInputError: a lead that is no view, rounds below 1, alpha outside [0, 1], cost not above 0, or an initial
            projection that cannot be built or fitted with these dimensions and this supervision; in `fit`, items that
            are all the same in a view.

    References:
        Moran & Lavrenko, "Regularised cross-modal hashing", SIGIR 2015; GRH, of ECIR 2015, is its lead view's half.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})

    initial: Projection

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        lead: str | None = None,
        initial: InitialProjection = LSH,
        rounds: int = 1,
        alpha: float = 0.75,
        cost: float = 1.0,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if lead is not None:
            check_choice(lead, input_dims, "lead")
        check_count(rounds, "rounds")
        check_fraction(alpha, "alpha")
        check_positive(cost, "cost")
        self.lead = lead
        # Not registered as a submodule: the map that is learnt has no weight of it to train or to save.
        built = build_initial(initial, self.input_dims[lead or tuple(input_dims)[-1]], output_dim)
        object.__setattr__(self, "initial", built)
        self.rounds = rounds
        self.alpha = alpha
        self.cost = cost
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})

    def _fit(
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
    ) -> None:
        assert affinity is not None
        lead = self.lead or tuple(self.input_dims)[-1]
        means = {name: feature_mean(features) for name, features in views.items()}

        def learn(name: str, bits: Tensor) -> Tensor:
            directions, offsets = centred_machines(views[name], means[name], bits, self.cost, name)
            self.view(name).set(means[name], directions, offsets)
            margins: Tensor = self.view(name)(views[name])
            return margins >= 0

        def follow(bits: Tensor) -> Tensor:
            self.learnt_codes = bits
            return learn(lead, bits)

        self.initial.to(self.view(lead).mean)
        self.initial.fit(views[lead], labels=labels, affinity=affinity, generator=generator)
        regularise(affinity, self.initial(views[lead]) >= 0, self.alpha, self.rounds, follow)
        assert self.learnt_codes is not None
        for name in views:
            if name != lead:
                learn(name, self.learnt_codes)
