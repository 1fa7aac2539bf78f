"""MDSHC: deep hashing with minimal-distance-separated hash centres (Wang et al., CVPR 2023)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.functional.masked_mean import masked_mean
from deephash.functional.separated_codewords import separated_codewords
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch

# Shorter codes are not scaled to unit length, because their gradients would be very large.
SHORTEST = 1e-3


def centre_likelihood(codes: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each class with its share of a softmax over cosines with the centres.

    The share of class c is p_c = softmax(√l cos(u, h_c)); the result is the mean of -log p_c over an item's classes and
    of -log(1 - p_c) over the others.

    Args:
        codes: floating (n, l).
        centres: (c, l), ±1.
        labels: class indices int64 (n,), or indicator bool (n, c).

    Returns:
        A scalar, the mean over all pairs of an item with labels and a class; 0 if no item has a label.
    """
    directions = centres / centres.shape[1] ** 0.5
    logits = centres.shape[1] ** 0.5 * functional.normalize(codes, eps=SHORTEST) @ directions.T
    indicators = functional.one_hot(labels, len(centres)) > 0 if labels.ndim == 1 else labels
    log_shares = logits.log_softmax(1)
    # With one class, its share is 1; rounding can also lead to 1 for long codes.
    rest = torch.log1p(-log_shares.exp().clamp_max(1 - torch.finfo(logits.dtype).eps))
    return -masked_mean(torch.where(indicators, log_shares, rest), indicators.any(1, keepdim=True).expand_as(logits))


def closeness_of_neighbours(codes: Tensor, neighbours: Tensor) -> Tensor:
    """Mean of log(1 + exp((1 - cos) / 2)) over pairs of different items that are neighbours.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n).

    Returns:
        A scalar; 0 if there is no pair.
    """
    directions = functional.normalize(codes, eps=SHORTEST)
    itself = torch.eye(len(codes), dtype=torch.bool, device=codes.device)
    return masked_mean(functional.softplus((1 - directions @ directions.T) / 2), neighbours & ~itself)


@final
class MDSHC(Loss):
    """Minimal-distance-separated hash centres: pulls codes to class centres that keep a distance from each other.

    The centres are far apart on average, and any two differ in at least as many bits as the Gilbert-Varshamov bound
    suggests: `separated_codewords`. Unlike the centres of CSQ, they exist for every code length and any number of
    classes with this guarantee. Codes are compared with all centres by a softmax of cosines, are made near to each
    other within a class, and are moved towards hard bits.
    Known weakness: for at most 2l classes at a length that is a power of two, rows of a Hadamard matrix, as in CSQ,
    have a larger minimal distance. Centres ignore which classes are similar. They also ignore the fitted codes that
    training starts from. For quantisers ranked by Manhattan distance, a centre may not be a valid code.

    Shape:
        codes (n, l), labels (n,) or (n, c), neighbours (n, n) → scalar, at least 0. Items without labels have no
        centre.

    Args:
        code_length: code length l.
        classes: number of classes c.
        generator: CPU generator of the centres.
        pair_weight: β of the pairs of neighbours, 1 as in public code. They are pairs of the batch. Public code
            compares a batch with stored codes of all training items, which a second network computes that follows the
            first, and adds this term after nine epochs.
        quantization_weight: λ of the squared distance between codes and hard bits; 0.0001 as in public code.

    Raises:
        InvalidInputError: a weight is below 0, or there are more classes than codewords.

    References:
        Wang, Pan, Liu, Lai, Yin & Liu, "Deep hashing with minimal-distance-separated hash centers", CVPR 2023.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels", "neighbours"})
    targets: ClassVar[tuple[str, ...]] = ("centres",)

    centres: Tensor

    def __init__(
        self,
        code_length: int,
        classes: int,
        generator: torch.Generator | None = None,
        pair_weight: float = 1.0,
        quantization_weight: float = 0.0001,
    ) -> None:
        super().__init__()
        check_weight(pair_weight, "pair_weight")
        check_weight(quantization_weight, "quantization_weight")
        self.pair_weight, self.quantization_weight = pair_weight, quantization_weight
        self.register_buffer("centres", separated_codewords(classes, code_length, generator))

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Likelihood of the centres, closeness of neighbours, and distance from hard bits."""
        assert batch.labels is not None
        assert batch.neighbours is not None
        likelihood = centre_likelihood(batch.codes, self.centres.to(batch.codes), batch.labels)
        pairs = closeness_of_neighbours(batch.codes, batch.neighbours)
        quantisation = (batch.codes.abs() - 1).square().mean()
        return likelihood + self.pair_weight * pairs + self.quantization_weight * quantisation
