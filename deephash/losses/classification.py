"""A linear classifier on codes, as in GreedyHash (Su, Zhang, Han & Tian, NeurIPS 2018)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.functional.random_linear import random_linear
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_fraction


def classification_error(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy for one class per item; binary cross-entropy of each class for several classes per item.

    Args:
        logits: floating (n, c).
        labels: class indices int64 (n,), or indicator bool (n, c).
        label_smoothing: ε, the share of the target that is spread over all classes, or over yes and no.

    Returns:
        A scalar, the mean over items; for several classes per item, also over classes.
    """
    if labels.ndim == 1:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    targets = labels.to(logits) * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, targets)


@final
class Classification(Loss):
    """Classification: trains the codes together with a linear classifier that predicts the class from them.

    Codes from which a linear classifier can predict the class are near each other within a class. With
    `straight_through` and `greedy_penalty` this is GreedyHash.
    Known weakness: classes are separated in Hamming distance only as much as the classifier needs, so a few bits may
    carry the class while the others are random.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar.

    Args:
        code_length: code length l.
        classes: number of classes c.
        generator: CPU generator of the initial classifier.
        label_smoothing: share of a target spread over all classes; above 0 it reduces overfitting to small training
            sets.

    Raises:
        InvalidInputError: label_smoothing is outside [0, 1].

    References:
        Su, Zhang, Han & Tian, "Greedy hash: towards fast optimization for accurate hash coding in CNN", NeurIPS 2018.
        Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, "Rethinking the Inception architecture", CVPR 2016, on smoothing.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __init__(
        self, code_length: int, classes: int, generator: torch.Generator | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        check_fraction(label_smoothing, "label_smoothing")
        self.label_smoothing = label_smoothing
        self.classifier = random_linear(code_length, classes, generator)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Error of the classifier."""
        assert batch.labels is not None
        return classification_error(self.classifier(batch.codes), batch.labels, self.label_smoothing)
