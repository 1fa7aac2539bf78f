"""The base class of graph regularised hashing (Moran & Lavrenko, ECIR 2015), and the projection that it refines."""

from collections.abc import Callable
from typing import ClassVar

from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count, check_fraction, check_positive

InitialProjection = Projection | Callable[[int, int], Projection]


def build_initial(initial: InitialProjection, input_dim: int, output_dim: int) -> Projection:
    """Build the projection whose bits are refined.

    Args:
        initial: a projection, or a callable that builds one from (input_dim, output_dim), such as its class.
        input_dim: feature dimension d.
        output_dim: number of projections k.

    Raises:
        InvalidInputError: the projection has a different d or k, or it cannot be built with these.
    """
    built = initial if isinstance(initial, Projection) else initial(input_dim, output_dim)
    if (built.input_dim, built.output_dim) != (input_dim, output_dim):
        raise InvalidInputError(
            f"initial={type(built).__name__} maps {built.input_dim} dimensions to {built.output_dim} projections; "
            f"expected {input_dim} and {output_dim}."
        )
    return built


class GraphRegularised(Projection):
    """Base class of projections that alternate a graph step on bits with machines that learn these bits.

    Subclasses implement `_fit`, and document the arguments.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    minimum_rows: ClassVar[int] = 2

    initial: Projection

    def __init__(
        self, input_dim: int, output_dim: int, initial: InitialProjection, rounds: int, alpha: float, cost: float
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
