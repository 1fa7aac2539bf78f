"""The fit of inner products to labels of KSH, by gradient (Liu, Wang, Ji, Jiang & Chang, CVPR 2012)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class InnerProduct(Loss):
    """Squared difference between u·v / l and 1 for neighbours, -1 for others.

    It is what `method=ksh` lowers bit by bit, here over all bits at once. Known weakness: it asks codes of others to be
    opposite, which among more than two classes cannot be, and those pairs are most of them; what remains is a
    compromise, in which all distances count and not the near ones alone.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [0, 4]; 0 where there is no pair.

    References:
        Liu, Wang, Ji, Jiang & Chang, "Supervised hashing with kernels", CVPR 2012, Eq. 6.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared difference over pairs of different items."""
        assert batch.neighbours is not None
        n, length = batch.codes.shape
        products = batch.codes @ batch.codes.T / length
        errors = (products - (2 * batch.neighbours.to(products) - 1)).square()
        return (errors * batch.others).sum() / max(1, n * (n - 1))
