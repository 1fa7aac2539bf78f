"""The contract of a projection: features (n, d) → continuous projections (n, k)."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity, check_supervision
from deephash.conversion import PlainArguments
from deephash.functional.solving import check_learnt, shorten_solver_errors
from deephash.validation import NotFittedError, as_features, as_labels, check_count, check_length, check_scale


class Projection(PlainArguments, nn.Module, ABC):
    """A learnt map from features to the continuous values that a quantiser turns into bits.

    Subclasses implement `_fit` (its paper's algorithm) and `forward` (differentiable in its input and its parameters);
    all state is allocated in `__init__`, so that weights load strictly. Weights that later training may move are
    `nn.Parameter`s; statistics of the data are buffers. Constructor arguments are kept under their own names, which
    is how a saved hasher remembers them; where `fit` finds less data than a size asks for, as rows for anchors, it
    lowers that argument and allocates again.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """What `fit` needs beside features: a subset of {"labels", "affinity"}."""

    minimum_rows: ClassVar[int] = 1
    """Least number of training rows with which the method is defined."""

    samples_rows: ClassVar[bool] = False
    """Whether `fit` draws training rows at random, as anchors, so that their order is part of the draw."""

    fits_on_shares: ClassVar[bool] = False
    """Whether `fit` takes sums over rows alone, so that processes can fit on shares of them (`row_shares`)."""

    orthonormal: ClassVar[tuple[str, ...]] = ()
    """Parameters (d, k) whose columns are orthonormal by the method's definition; joint training keeps them so."""

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
        """Project features (n, d) to (n, k), differentiably. Neither checks for NaN nor for a missing fit."""

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
        """Learn the projection by its paper's algorithm.

        Args:
            features: numbers (n, d), as `as_features` takes them; not changed.
            labels: class indices (n,) or indicator bool (n, c), where the method requires them.
            affinity: which training items are neighbours, where the method requires it; a definition fitted on these
                items, or what its `supervise` gives.
            generator: CPU generator of every random draw; None draws from one seeded with 0.

        Returns:
            self, fitted, on the device of its weights.

        Raises:
            InvalidInputError: bad features or labels, too few rows, or required supervision missing.
        """
        features = as_features(features, self.input_dim, self.minimum_rows, "training features")
        check_scale(features, "training features")
        if labels is not None:
            labels = as_labels(labels, len(features), "training labels")
        check_supervision(type(self).__name__, self.requires, labels, affinity, len(features))
        pairs = affinity.supervise(features, labels) if isinstance(affinity, Affinity) else affinity
        with shorten_solver_errors(type(self).__name__, len(features)):
            self._fit(features.to(self._device()), labels, pairs, generator or torch.Generator().manual_seed(0))
        check_learnt(self, type(self).__name__, len(features))
        self.is_fitted.fill_(True)
        return self

    def check_fitted(self) -> None:
        """Raise an error if this is used before `fit`.

        Raises:
            NotFittedError: where neither `fit` nor loaded weights have set this projection.
        """
        if not bool(self.is_fitted):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit first, or load a saved hasher.")

    def _device(self) -> torch.device:
        return self.is_fitted.device
