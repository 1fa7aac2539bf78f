"""CIBHash: contrastive learning of codes of two views (Qiu, Su, Ou, Yu & Chen, IJCAI 2021)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number, check_positive

# How far from 0 and 1 the chance of a bit is kept, so that hard bits that differ cost a finite amount.
MIN_CHANCE = 0.01


def cross_entropy_of_views(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent: each of 2n codes is to tell its other view from the 2n - 2 codes of other items.

    Similarity is u·v / l, of bits their cosine.

    Args:
        first: floating (n, l), codes of one view.
        second: (n, l), of the other.
        temperature: of the softmax.

    Returns:
        A scalar; 0 where there is one item.
    """
    n, length = first.shape
    codes = torch.cat([first, second])
    similarity = codes @ codes.T / (length * temperature)
    itself = torch.eye(2 * n, dtype=torch.bool, device=codes.device)
    partner = torch.arange(2 * n, device=codes.device).roll(n)
    return nn.functional.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


def divergence_of_views(first: Tensor, second: Tensor) -> Tensor:
    """KL(p ‖ q) of independent bits, summed over bits, mean over items and both directions.

    Args:
        first: floating (n, l) in [-1, 1]: bits that are 1 with chance (1 + u) / 2.
        second: (n, l), of the other view.

    Returns:
        A scalar, at least 0.
    """
    p, q = (MIN_CHANCE + (1 - 2 * MIN_CHANCE) * (1 + codes) / 2 for codes in (first, second))
    # KL(p ‖ q) + KL(q ‖ p) of a bit is the difference of chances times that of log-odds.
    return ((p - q) * (p.logit() - q.logit())).sum(1).mean() / 2


@final
class CIBHash(Loss):
    """Without labels: the codes of two random changes of an item are alike, and unlike those of other items.

    The second term, which the information bottleneck gives, lets a code keep of an item only what both views share.
    Known weakness: what it counts as alike is what the augmentation changes; and items of one class are pushed apart as
    any other items.

    Shape:
        codes (n, l), second codes (n, l) → scalar, at least 0.

    Args:
        temperature: of the softmax over similarities, .3 as in the authors' code.
        beta: weight of the divergence of the two views' bits, .001 as there. The chance of a bit is held between .01
            and .99.

    Raises:
        InvalidInputError: a temperature that is not above 0, or a weight below 0.

    References:
        Qiu, Su, Ou, Yu & Chen, "Unsupervised hashing with contrastive information bottleneck", IJCAI 2021. The first
        term: Chen, Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning of visual
        representations", ICML 2020.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"second_codes"})

    def __init__(self, temperature: float = 0.3, beta: float = 0.001) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        check_number(beta, "beta")
        if beta < 0:
            raise InvalidInputError(f"beta={beta!r}; expected a number of at least 0.")
        self.temperature, self.beta = temperature, beta

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Cross-entropy of telling views, and their divergence."""
        assert batch.second_codes is not None
        views = batch.codes, batch.second_codes
        return cross_entropy_of_views(*views, self.temperature) + self.beta * divergence_of_views(*views)
