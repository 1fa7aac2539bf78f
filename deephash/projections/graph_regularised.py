"""The base class of graph regularised hashing (Moran & Lavrenko, ECIR 2015): refine bits by neighbours and machines."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from deephash.affinity.graph_regularisation import regularise
from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.base import Projection
from deephash.projections.lsh import LSH
from deephash.validation import InvalidInputError, check_count, check_fraction, check_positive

InitialProjection = Projection | Callable[[int, int], Projection]


def build_initial(initial: InitialProjection, input_dim: int, output_dim: int) -> Projection:
    """Build the projection whose bits are refined.

    Args:
        initial: a projection, or a callable that builds one from (input_dim, output_dim), such as its class.
        input_dim: feature dimension d.
        output_dim: number of projections k.

    Raises:
        InvalidInputError: the projection has another d or k, or it cannot be built with these.
    """
    built = initial if isinstance(initial, Projection) else initial(input_dim, output_dim)
    if (built.input_dim, built.output_dim) != (input_dim, output_dim):
        raise InvalidInputError(
            f"initial={type(built).__name__} maps {built.input_dim} dimensions to {built.output_dim} projections; "
            f"expected {input_dim} and {output_dim}, as this is built for."
        )
    return built


class GraphRegularised(Projection):
    """Projections that alternate a graph step on bits with machines that learn them.

    Subclasses implement `_learn`, and document the arguments and their defaults.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    minimum_rows: ClassVar[int] = 2

    initial: Projection
    bias: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        initial: InitialProjection = LSH,
        rounds: int = 1,
        alpha: float = 1.0,
        cost: float = 1.0,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(rounds, "rounds")
        check_fraction(alpha, "alpha")
        check_positive(cost, "cost")
        # Not registered as a submodule, because its weights are neither trained nor saved.
        object.__setattr__(self, "initial", build_initial(initial, input_dim, output_dim))
        self.rounds = rounds
        self.alpha = alpha
        self.cost = cost

    def _prepare(
        self, features: Tensor, affinity: TrainingAffinity, generator: torch.Generator
    ) -> tuple[Tensor, TrainingAffinity]:
        """Set the state that does not depend on bits; return the items to learn from and the affinity among them."""
        return features, affinity

    @abstractmethod
    def _learn(self, features: Tensor, bits: Tensor) -> Tensor:
        """Learn bits (n, k) from the features and return the predicted bits, bool (n, k)."""

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        self.initial.to(self.bias).fit(features, labels=labels, affinity=affinity, generator=generator)
        features, affinity = self._prepare(features, affinity, generator)
        bits = self.initial(features) >= 0
        regularise(affinity, bits, self.alpha, self.rounds, partial(self._learn, features))
