"""CIBHash: contrastive learning of codes of two views (Qiu, Su, Ou, Yu & Chen, IJCAI 2021)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive

# The probability of a bit stays this far from 0 and 1, so that hard bits that differ have a finite cost.
MIN_PROBABILITY = 0.01


def cross_entropy_of_views(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent: the cross-entropy of identifying a code's other view among the 2n - 1 other codes.

    The similarity is u·v / l, which is the cosine for hard bits.

    Args:
        first: floating (n, l), codes of one view.
        second: (n, l), codes of the other view.
        temperature: temperature of the softmax.

    Returns:
        A scalar; 0 for one item.
    """
    n, length = first.shape
    codes = torch.cat([first, second])
    similarity = codes @ codes.T / (length * temperature)
    itself = torch.eye(2 * n, dtype=torch.bool, device=codes.device)
    partner = torch.arange(2 * n, device=codes.device).roll(n)
    return nn.functional.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


def divergence_of_views(first: Tensor, second: Tensor) -> Tensor:
    """KL(p ‖ q) of independent bits, summed over bits, averaged over items and both directions.

    Args:
        first: floating (n, l) in [-1, 1]: bits that are 1 with probability (1 + u) / 2.
        second: (n, l), of the other view.

    Returns:
        A scalar, at least 0.
    """
    p, q = (MIN_PROBABILITY + (1 - 2 * MIN_PROBABILITY) * (1 + codes) / 2 for codes in (first, second))
    # KL(p ‖ q) + KL(q ‖ p) of a bit is the difference of probabilities times that of log-odds.
    return ((p - q) * (p.logit() - q.logit())).sum(1).mean() / 2


@final
class CIBHash(Loss):
    """Contrastive information bottleneck hashing: makes codes of two augmentations of an item similar, without labels.

    The contrastive term makes the codes of two random changes of an item similar to each other and dissimilar to those
    of other items. The second term, from the information bottleneck, limits a code to what both views share.
    Known weakness: the augmentations determine what counts as similar; items of one class repel each other like
    items of different classes.

    Shape:
        codes (n, l), second codes (n, l) → scalar, at least 0.

    Args:
        temperature: temperature of the softmax over similarities, .3 as in the authors' code.
        beta: weight of the divergence between the bits of the views, .001 as in that code. Probabilities of bits are
            kept between .01 and .99.

    Raises:
        InvalidInputError: temperature is not above 0, or beta is below 0.

    References:
        Qiu, Su, Ou, Yu & Chen, "Unsupervised hashing with contrastive information bottleneck", IJCAI 2021. Chen,
        Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning of visual representations", ICML 2020,
        for the first term.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"second_codes"})

    def __init__(self, temperature: float = 0.3, beta: float = 0.001) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        check_weight(beta, "beta")
        self.temperature, self.beta = temperature, beta

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Contrastive cross-entropy, and the divergence of the views."""
        assert batch.second_codes is not None
        views = batch.codes, batch.second_codes
        return cross_entropy_of_views(*views, self.temperature) + self.beta * divergence_of_views(*views)
