"""The loss of deep cross-modal hashing (Jiang & Li, CVPR 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.codes import hard_bits
from deephash.functional.pair_likelihood import pair_likelihood
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch


def shared_bits(codes: Tensor, rows: Tensor) -> Tensor:
    """B = sign(F + G), the bits ±1 shared by an item's codes F and G in its two views (Eq. 5), for each code.

    Args:
        codes: floating (n, l).
        rows: int64 (n,), the item of each code.

    Returns:
        ±1 (n, l), without gradient; for an item with one code, the signs of this code.
    """
    codes = codes.detach()
    sums = codes.new_zeros(int(rows.max()) + 1, codes.shape[1]).index_add_(0, rows, codes)
    return (2 * hard_bits(sums).to(codes) - 1)[rows]


def bit_balance(codes: Tensor, views: Tensor) -> Tensor:
    """Squared mean of each bit over each view's codes, summed over bits and views."""
    present = views.unique()  # type: ignore[no-untyped-call]
    means = [(codes * (views == view)[:, None]).sum(0) / (views == view).sum() for view in present]
    return torch.stack(means).square().sum()


@final
class DCMH(Loss):
    """Deep cross-modal hashing: makes codes of different views similar, for neighbours and for the same item.

    The first term is the likelihood of the neighbours, given half the inner products of codes from different views. The
    second is the distance of codes from the bits that the two codes of an item share, and the third balances the bits.
    Pairs within a view do not count, because the shared bits bring neighbours together in each view.
    Known weakness: half of an inner product of long codes is often in the flat part of the likelihood. All pairs count
    equally, so pairs that are not neighbours dominate, as in DPSH.

    Shape:
        codes (n, l) of both views, neighbours (n, n), views (n,), rows (n,) → scalar, at least 0.

    Args:
        gamma: weight of the squared distance between codes and shared bits. The paper sums over n² pairs and 2n codes,
            and this loss averages: the paper's 1 for 10,000 items and 16 bits corresponds to 0.003. Unlike in the
            paper, the codes are bounded, by the relaxation.
        eta: weight of the squared mean of each bit over each view, summed; 1 as in the paper.

    Raises:
        InvalidInputError: a weight is below 0.

    References:
        Jiang & Li, "Deep cross-modal hashing", CVPR 2017, Eqs. 1 and 5.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours", "two_views"})

    def __init__(self, gamma: float = 0.1, eta: float = 1.0) -> None:
        super().__init__()
        for name, value in (("gamma", gamma), ("eta", eta)):
            check_weight(value, name)
        self.gamma, self.eta = gamma, eta

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Negative log-likelihood of the pairs across views, distance from shared bits, and imbalance."""
        assert batch.neighbours is not None
        assert batch.rows is not None
        assert batch.views is not None
        likelihood = pair_likelihood(batch.codes, batch.neighbours, batch.across)
        quantisation = (batch.codes - shared_bits(batch.codes, batch.rows)).square().mean()
        return likelihood + self.gamma * quantisation + self.eta * bit_balance(batch.codes, batch.views)
