"""The contract of a loss: a batch of relaxed codes → one number to lower."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from deephash.conversion import PlainArguments
from deephash.losses.batch import TrainingBatch


class Loss(PlainArguments, nn.Module, ABC):
    """A differentiable objective of a batch.

    A loss with weights of its own (a classifier, class centres) takes their sizes in its constructor under these names,
    which training fills in: `code_length` l, `classes` c, `projections` k, and `generator`, a CPU generator of their
    random start. Everything else is a setting. Pairs of an item with itself say nothing and never count.

    Shape:
        `TrainingBatch` of n items → scalar, finite for every batch of at least 1 item; 0 with a gradient of 0 where
        the batch has nothing to say, as no pair of neighbours.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """What it reads beside codes: a subset of {"labels", "single_labels", "neighbours", "second_codes", "one_view",
    "two_views"}, where "single_labels" asks for class indices and "labels" takes indicators of several labels too;
    "one_view" says that it reads features or thresholds of one view, "two_views" that it compares views."""

    @abstractmethod
    def forward(self, batch: TrainingBatch) -> Tensor:
        """The loss of a batch, a scalar."""
