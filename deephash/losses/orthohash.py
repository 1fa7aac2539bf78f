"""OrthoHash: cosine similarity with orthogonal codewords (Hoe et al., NeurIPS 2021)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.class_codewords import class_codewords
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_choice, check_number, check_positive

# Shorter codes are not scaled to unit length, because their gradients would be very large.
SHORTEST = 1e-3


def margin_cross_entropy(cosines: Tensor, indicators: Tensor, scale: float, margin: float) -> Tensor:
    """Cross-entropy of softmax(s (cos - m y)), in which an item's own classes must overcome the margin.

    Args:
        cosines: floating (n, c).
        indicators: y, bool (n, c). Several classes of an item have equal shares.
        scale: factor s of the logits.
        margin: margin m of the cosine.

    Returns:
        (n,); 0 for an item without classes.
    """
    targets = indicators.to(cosines)
    log_shares = (scale * (cosines - margin * targets)).log_softmax(1)
    return -(log_shares * targets).sum(1) / targets.sum(1).clamp_min(1)


def binary_cross_entropy(cosines: Tensor, indicators: Tensor, scale: float, margin: float) -> Tensor:
    """Mean over classes of the cross-entropy of sigmoid(s (cos - m y)) with y.

    Args:
        cosines: floating (n, c).
        indicators: y, bool (n, c).
        scale: factor s of the logits.
        margin: margin m of the cosine.

    Returns:
        (n,); 0 for an item without classes.
    """
    targets = indicators.to(cosines)
    logits = scale * (cosines - margin * targets)
    costs = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return costs.mean(1) * targets.amax(1)


# Cross-entropy of items with several labels.
SEVERAL_LABELS = {"shares": margin_cross_entropy, "binary": binary_cross_entropy}


@final
class OrthoHash(Loss):
    """OrthoHash: turns codes towards nearly orthogonal codewords of their classes, by a cross-entropy of cosines.

    One term replaces several: a code that points to its codeword, whose entries are ±1, has the right class and bits of
    equal magnitude, and differs from other classes in half of its bits.
    Known weakness: the loss does not balance bits; this needs a batch normalisation of the projections. Codewords
    ignore which classes are similar. They also ignore the fitted codes that training starts from, so codes become worse
    before they improve, and training needs a large learning rate and many epochs.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar. Items without labels do not count.

    Args:
        code_length: code length l.
        classes: number of classes c.
        generator: CPU generator of the codewords.
        codewords: "bernoulli" for fair coins, the authors' default; "hadamard" for rows of a Hadamard matrix if l is a
            power of two and c <= 2l, otherwise fair coins.
        scale: s; 8 as in the authors' code.
        margin: m; 0.2 as in the authors' code.
        several_labels: cross-entropy of items with several labels: "shares" for a softmax with equal shares of an
            item's classes, the authors' default, or "binary" for a sigmoid of each class, which their code has too.

    Raises:
        InvalidInputError: settings are out of range, or there are more classes than codewords.

    References:
        Hoe, Ng, Zhang, Chan, Song & Xiang, "One loss for all: deep hashing with a single cosine similarity based
        learning objective", NeurIPS 2021.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    targets: ClassVar[tuple[str, ...]] = ("directions",)

    directions: Tensor

    def __init__(
        self,
        code_length: int,
        classes: int,
        generator: torch.Generator | None = None,
        codewords: str = "bernoulli",
        scale: float = 8.0,
        margin: float = 0.2,
        several_labels: str = "shares",
    ) -> None:
        super().__init__()
        check_choice(several_labels, SEVERAL_LABELS, "several_labels")
        self.several_labels = several_labels
        check_positive(scale, "scale")
        check_number(margin, "margin")
        self.scale = scale
        self.margin = margin
        drawn = class_codewords(classes, code_length, codewords, generator)
        self.register_buffer("directions", drawn / code_length**0.5)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean cross-entropy over the items with labels."""
        labels, codes = batch.labels, batch.codes
        assert labels is not None
        cosines = torch.nn.functional.normalize(codes, eps=SHORTEST) @ self.directions.to(codes.dtype).T
        indicators, entropy = labels, SEVERAL_LABELS[self.several_labels]
        if labels.ndim == 1:
            indicators, entropy = torch.nn.functional.one_hot(labels, len(self.directions)), margin_cross_entropy
        terms = entropy(cosines, indicators, self.scale, self.margin)
        return terms.sum() / (indicators > 0).any(1).sum().clamp_min(1)
