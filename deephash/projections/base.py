"""The base class of projections: features (n, d) → continuous projections (n, k)."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.projections.learner import Learner
from deephash.validation import as_features, check_count, check_length, check_scale


class Projection(Learner, ABC):
    """A learnt map from features to the continuous values that a quantiser turns into bits.

    Subclasses implement `_fit`, the algorithm of the paper, and `forward`, which is differentiable in its input and its
    parameters. They allocate all state in `__init__`, so that weights load strictly. Weights that later training may
    change are `nn.Parameter`s; statistics of the data are buffers. Each constructor argument is kept as an
    attribute of the same name, and a saved hasher stores it from there. If `fit` finds less data than an argument
    requires, for example fewer rows than anchors, it lowers that argument and allocates the state again.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
    """

    minimum_rows: ClassVar[int] = 1
    """Smallest number of training rows for which the method is defined."""

    orthonormal: ClassVar[tuple[str, ...]] = ()
    """Parameters (d, k) whose columns the method defines as orthonormal; joint training keeps them orthonormal."""

    is_fitted: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        check_count(input_dim, "input_dim")
        check_length(output_dim, "output_dim")
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.register_buffer("is_fitted", torch.tensor(False))

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Project features (n, d) to (n, k), differentiably, without a check of the input or of the fit."""

    @abstractmethod
    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        """Learn the weights in place from checked input; gradients are off."""

    @torch.no_grad()
    def fit(
        self,
        features: Tensor | ArrayLike,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: Affinity | TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn the projection by the algorithm of its paper.

        Args:
            features: numbers (n, d), in any form that `as_features` accepts; not changed.
            labels: class indices (n,) or indicator bool (n, c), if the method requires them.
            affinity: a definition of neighbours fitted on the training items, or the result of its `supervise`;
                required by some methods.
            generator: CPU generator of every random draw; None uses one seeded with 0.

        Returns:
            self, fitted, on the device of its weights.

        Raises:
            InvalidInputError: features or labels are invalid, rows are too few, or required supervision is missing.
        """
        features = as_features(features, self.input_dim, self.minimum_rows, "training features")
        check_scale(features, "training features")
        labels, pairs = self._supervise(features, labels, affinity)
        with self._solving(len(features)):
            self._fit(features.to(self._device()), labels, pairs, generator or torch.Generator().manual_seed(0))
        self.is_fitted.fill_(True)
        return self

    def check_fitted(self) -> None:
        """Raise an error if this projection is not fitted.

        Raises:
            NotFittedError: the projection was neither fitted nor loaded.
        """
        self._check_fitted(bool(self.is_fitted))

    def _device(self) -> torch.device:
        return self.is_fitted.device
