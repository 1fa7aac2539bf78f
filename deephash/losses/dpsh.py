"""Deep pairwise-supervised hashing (Li, Wang & Kang, IJCAI 2016)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.functional.pair_likelihood import pair_likelihood
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch


@final
class DPSH(Loss):
    """Deep pairwise-supervised hashing: maximises the likelihood of the neighbour pairs, and keeps codes near bits.

    The probability that two items are neighbours is a sigmoid of half the inner product of their codes. All pairs count
    equally.
    Known weakness: nearly all pairs are not neighbours, and they soon dominate the loss; `hashnet` gives neighbours and
    other pairs the same total weight. Half of an inner product of long codes is often in the flat part of the
    likelihood, so pairs stop moving long before they are as near or as far apart as possible.

    Shape:
        codes (n, l), neighbours (n, n) → scalar, at least 0.

    Args:
        eta: weight of the squared distance between codes and their bits. The paper sums and this loss averages: the
            paper's 10 for 5,000 items of 48 bits corresponds to 10 · 48 / 5000, about 0.1.

    Raises:
        InvalidInputError: eta is below 0.

    References:
        Li, Wang & Kang, "Feature learning based deep supervised hashing with pairwise labels", IJCAI 2016.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, eta: float = 0.1) -> None:
        super().__init__()
        check_weight(eta, "eta")
        self.eta = eta

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Negative log-likelihood of the pairs, plus the weighted quantisation error."""
        assert batch.neighbours is not None
        quantisation = (batch.codes.abs() - 1).square().mean()
        return pair_likelihood(batch.codes, batch.neighbours, batch.others) + self.eta * quantisation
