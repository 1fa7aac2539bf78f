"""Regularised cross-modal hashing (Moran & Lavrenko, SIGIR 2015)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.graph_regularisation import regularise
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import feature_mean
from deephash.functional.scaled_machines import centred_machines
from deephash.projections.base import Projection
from deephash.projections.graph_regularised import InitialProjection, build_initial
from deephash.projections.lsh import LSH
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.validation import check_choice, check_count, check_fraction, check_positive


@final
class RCMH(PairedProjection):
    """Regularised cross-modal hashing: learns bits of one view that neighbours agree on, then both views predict them.

    The bits of the lead view start from any projection of it. In each round, every item takes the majority bits of its
    neighbours, and linear machines learn the result from the lead view, as in GRH. The machines of the other view then
    learn the bits of the last round from the same pairs.
    Known weakness: the other view never separates what the lead view cannot; hyperplanes cannot follow groups of
    neighbours that are not linearly separable.

    Shape:
        features (n, d of the view) → projections (n, k), the margins of the machines.

    Args:
        input_dims: feature dimension d of each view by name.
        output_dim: number of projections k, at most what the initial projection supports.
        lead: the view whose bits are regularised; None for the last, which is the text if the order is image, text, as
            in the paper.
        initial: the initial projection of the lead view, or a callable that builds one from (input_dim, output_dim);
            random hyperplanes (LSH) by default. It gives the bits L₀; its weights are not kept.
        rounds: number of alternations of graph step and machines. With class labels one round is enough, as in GRH.
        alpha: α, the weight of the neighbours' bits against the initial bits. With classes, neighbours can outvote an
            item only if α exceeds ½; with 1 all items of a class get the same bits.
        cost: C of the machines of both views, for features scaled to unit total variance.

    Raises:
        InvalidInputError: lead is not a view, rounds is below 1, alpha is outside [0, 1], cost is not above 0, or the
            initial projection cannot be built or fitted with these dimensions and this supervision; in `fit`, all items
            of a view are the same.

    References:
        Moran & Lavrenko, "Regularised cross-modal hashing", SIGIR 2015; the lead view is learnt by GRH (ECIR 2015).
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
        # Not registered as a submodule, because its weights are neither trained nor saved.
        built = build_initial(initial, self.input_dims[lead or tuple(input_dims)[-1]], output_dim)
        object.__setattr__(self, "initial", built)
        self.rounds = rounds
        self.alpha = alpha
        self.cost = cost

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        lead = self.lead or tuple(self.input_dims)[-1]
        means = {name: feature_mean(features) for name, features in views.items()}

        def learn(name: str, bits: Tensor) -> Tensor:
            directions, offsets = centred_machines(views[name], means[name], bits, self.cost, name)
            self.view(name).set_weights(means[name], directions, offsets)
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
