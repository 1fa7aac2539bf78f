"""A linear classifier on codes, as GreedyHash trains them (Su, Zhang, Han & Tian, NeurIPS 2018)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.functional.random_linear import random_linear
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_fraction


def classification_error(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy of one class an item; of several, binary cross-entropy of each class.

    Args:
        logits: floating (n, c).
        labels: class indices int64 (n,), or indicator bool (n, c).
        label_smoothing: ε, the share of the target that is spread over all classes, or over yes and no.

    Returns:
        A scalar, the mean over items, and over classes where an item has several.
    """
    if labels.ndim == 1:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    targets = labels.to(logits) * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, targets)


@final
class Classification(Loss):
    """Cross-entropy of a linear classifier that takes codes, and is trained with them.

    Codes from which a class can be read linearly lie near each other within a class. With `straight_through` and
    `greedy_penalty` it is GreedyHash. Known weakness: nothing asks classes apart in Hamming distance beyond what the
    classifier needs, so a few bits may carry a class while the others follow chance.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar.

    Args:
        code_length: l.
        classes: c.
        generator: CPU generator of the classifier's start.
        label_smoothing: share of a target spread over all classes; above 0 it keeps small training sets from being
            learnt by heart.

    Raises:
        InvalidInputError: label_smoothing outside [0, 1].

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
        """The classifier's error."""
        assert batch.labels is not None
        return classification_error(self.classifier(batch.codes), batch.labels, self.label_smoothing)
