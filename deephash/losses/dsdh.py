"""The linear classifier of deep supervised discrete hashing (Li, Sun, He & Tan, NIPS 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.functional.random_linear import random_linear
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch


@final
class DSDH(Loss):
    """Deep supervised discrete hashing: minimises the error of a linear regression from codes to classes.

    The loss is ‖Y - Wᵀ B‖² + ν ‖W‖². DSDH adds it to the pairwise likelihood of DPSH, so the complete loss is
    loss=[dsdh,dpsh]. The paper alternates between a ridge regression for W and a discrete search for the codes B. Here
    both follow the gradient, and with `straight_through` codes are discrete too.
    Known weakness: the squared error requires outputs of exactly 0 and 1, which wastes effort on items that are already
    clearly right; `classification` does not require this.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar: the sum over classes, averaged over items, plus the ridge.

    Args:
        code_length: code length l.
        classes: number of classes c.
        generator: CPU generator of the initial W.
        ridge: ν, per item; the paper's 0.1 is for all items together.

    Raises:
        InvalidInputError: ridge is below 0.

    References:
        Li, Sun, He & Tan, "Deep supervised discrete hashing", NIPS 2017.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __init__(
        self, code_length: int, classes: int, generator: torch.Generator | None = None, ridge: float = 0.001
    ) -> None:
        super().__init__()
        check_weight(ridge, "ridge")
        self.ridge = ridge
        self.regression = random_linear(code_length, classes, generator)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Squared error and ridge."""
        labels = batch.labels
        assert labels is not None
        predicted: Tensor = self.regression(batch.codes)
        if labels.ndim == 1:
            labels = functional.one_hot(labels, predicted.shape[1])
        error = (labels.to(predicted) - predicted).square().sum(1).mean()
        return error + self.ridge * self.regression.weight.square().sum()
