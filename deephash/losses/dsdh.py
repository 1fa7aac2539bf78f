"""The linear classifier of deep supervised discrete hashing (Li, Sun, He & Tan, NIPS 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.functional.random_linear import random_linear
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number


@final
class DSDH(Loss):
    """Squared error of indicators of the classes, regressed on codes: ‖Y - Wᵀ B‖² + ν ‖W‖².

    It is the term that DSDH adds to DPSH's likelihood of pairs, so loss=[dsdh,dpsh] is the whole. The paper alternates
    between a ridge regression for W and a discrete search for the codes B; here both follow the gradient, with
    `straight_through` in discrete codes too. Known weakness: squared error asks that classes be regressed to 0 and 1,
    which wastes effort on items that are right by more than that; `classification` has no such wish.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar: the sum over classes, averaged over items, and the ridge.

    Args:
        code_length: l.
        classes: c.
        generator: CPU generator of W's start.
        ridge: ν, per item; the paper's 0.1 is over all items.

    Raises:
        InvalidInputError: a ridge below 0.

    References:
        Li, Sun, He & Tan, "Deep supervised discrete hashing", NIPS 2017.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __init__(
        self, code_length: int, classes: int, generator: torch.Generator | None = None, ridge: float = 0.001
    ) -> None:
        super().__init__()
        check_number(ridge, "ridge")
        if ridge < 0:
            raise InvalidInputError(f"ridge={ridge!r}; expected a number of at least 0.")
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
