"""The base class of losses: a batch of relaxed codes → one number to minimise."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number


class Loss(PlainArguments, nn.Module, ABC):
    """A differentiable objective of a batch.

    Training passes constructor arguments of these names: `code_length` l, `classes` c, `projections` k, `input_dim` d,
    `items`, the number of training items, and `generator`, a CPU generator. They serve losses with their own weights,
    such as a classifier or class centres, or with a memory of codes. All other arguments are settings. With one view,
    pairs of an item with itself do not count.

    Shape:
        `TrainingBatch` of n items → scalar, finite for every batch of at least 1 item; 0 with gradient 0 if the batch
        contains nothing to learn from, for example no pair of neighbours.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """Requirements besides codes: a subset of {"labels", "single_labels", "neighbours", "second_codes", "one_view",
    "two_views", "pairs"}. "single_labels" requires class indices; "labels" also accepts indicators of several labels. A
    loss with "one_view" reads features or thresholds of one view; a loss with "two_views" compares views. A loss with
    "pairs" learns from queries and their passages, whose codes are the second codes."""

    stops_gradients: ClassVar[bool] = False
    """Whether the paper takes some of the codes as targets, through which no gradient passes. The gradient is then not
    the slope of the value."""

    targets: ClassVar[tuple[str, ...]] = ()
    """Names of buffers of fixed target bits, positive or negative, with the code length as their last axis. `nested`
    gives all prefixes the same targets."""

    @abstractmethod
    def forward(self, batch: TrainingBatch) -> Tensor:
        """Compute the loss of a batch, a scalar."""


def check_weight(value: float, name: str) -> None:
    """Raise an error for a weight that is not a finite number of at least 0.

    Raises:
        InvalidInputError: the weight is negative or not finite.
    """
    check_number(value, name)
    if value < 0:
        raise InvalidInputError(f"{name}={value!r}; expected a number of at least 0.")
