"""The contract of a paired projection: features of each of two views → continuous projections in one space."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity, check_supervision
from deephash.conversion import PlainArguments
from deephash.data.views import Views
from deephash.functional.solving import check_learnt, shorten_solver_errors
from deephash.validation import (
    InvalidInputError,
    NotFittedError,
    as_features,
    as_labels,
    check_count,
    check_length,
    check_scale,
)

VIEWS = 2


class PairedProjection(PlainArguments, nn.Module, ABC):
    """Two projections whose outputs mean the same: bit j of an image speaks of what bit j of its text does.

    A method makes a `Projection` for each view in its constructor, as `LinearView` or `KernelView`, with all their
    state, and writes `_fit`, its paper's algorithm, which sets their weights from pairs. What each view's projection
    does with new items is that projection's own affair, so an item of one view is coded without the other.

    Shape:
        features (n, d of the view) → projections (n, k), by `views[name]`.

    Args:
        input_dims: feature dimension d of each view by its name, in the order of the data; two of them.
        output_dim: number of projections k.

    Raises:
        InvalidInputError: another number of views than two.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """What `fit` needs beside features: a subset of {"labels", "affinity"}."""

    minimum_rows: ClassVar[int] = 2
    """Least number of training pairs with which the method is defined."""

    samples_rows: ClassVar[bool] = False
    """Whether `fit` draws training pairs at random, as anchors, so that their order is part of the draw."""

    fits_on_shares: ClassVar[bool] = False
    """Whether `fit` takes sums over rows alone, so that processes can fit on shares of them (`row_shares`)."""

    views: nn.ModuleDict

    learnt_codes: Tensor | None = None
    """Bits bool (n, k) that `fit` learnt for the training pairs themselves, in their order, where the method learns
    any; not kept with the weights. See `metrics.database_codes` for what they are good for."""

    def __init__(self, input_dims: Mapping[str, int], output_dim: int) -> None:
        super().__init__()
        if len(input_dims) != VIEWS:
            raise InvalidInputError(
                f"{type(self).__name__} takes {VIEWS} views, and the data have {len(input_dims)}: "
                f"{', '.join(input_dims)}; choose data with two."
            )
        for name, size in input_dims.items():
            check_count(size, f"input_dims[{name}]")
        check_length(output_dim, "output_dim")
        self.input_dims = dict(input_dims)
        self.output_dim = output_dim

    @abstractmethod
    def _fit(
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
    ) -> None:
        """Set the views' weights in place from checked input; gradients are off.

        Args:
            views: floating (n, d) of each view, row i of both the same pair, on the device of the weights.
            labels: int64 (n,), bool (n, c) or None.
            affinity: among the n pairs, or None.
            generator: CPU generator of every random draw.
        """

    @torch.no_grad()
    def fit(
        self,
        features: Views,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: Affinity | TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn both projections by the paper's algorithm.

        Args:
            features: n items in both views; those that lack one are left out.
            labels: class indices int64 (n,) or indicator bool (n, c), where the method requires them.
            affinity: which items are neighbours, where the method requires it; a definition, or what its `supervise`
                gives.
            generator: CPU generator of every random draw; None draws from one seeded with 0.

        Returns:
            self, fitted, on the device of its weights.

        Raises:
            InvalidInputError: other views than it was built for, bad features or labels, too few pairs, or required
                supervision missing.
        """
        if features.dimensions != self.input_dims:
            raise InvalidInputError(
                f"{type(self).__name__} was built for views {self.input_dims}; the data have {features.dimensions}."
            )
        if labels is not None:
            labels = as_labels(labels, len(features), "training labels")
        check_supervision(type(self).__name__, self.requires, labels, affinity, len(features))
        pairs = affinity.supervise(features, labels) if isinstance(affinity, Affinity) else affinity  # type: ignore[arg-type]
        complete = features.complete.nonzero()[:, 0]
        if len(complete) < len(features):
            labels = None if labels is None else labels[complete.to(labels.device)]
            pairs = None if pairs is None else pairs.subset(complete)
        whole = features.pairs()
        for name, rows in whole.features.items():
            rows = as_features(rows, self.input_dims[name], self.minimum_rows, f"training pairs' {name} features")
            check_scale(rows, f"training pairs' {name} features")
        generator = generator or torch.Generator().manual_seed(0)
        device = self._device()
        with shorten_solver_errors(type(self).__name__, len(whole)):
            self._fit({name: rows.to(device) for name, rows in whole.features.items()}, labels, pairs, generator)
        check_learnt(self, type(self).__name__, len(whole))
        for name in self.views:
            self.view(name).is_fitted.fill_(True)
        return self

    def view(self, name: str) -> Any:
        """The projection of one view, a `Projection`.

        Raises:
            InvalidInputError: no such view.
        """
        if name not in self.views:
            raise InvalidInputError(f"view={name!r}; expected one of: {', '.join(self.views)}.")
        return self.views[name]

    def check_fitted(self) -> None:
        """Raise an error if this is used before `fit`.

        Raises:
            NotFittedError: where neither `fit` nor loaded weights have set this projection.
        """
        if not all(bool(view.is_fitted) for view in self.views.values()):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit first, or load a saved hasher.")

    def _device(self) -> torch.device:
        return next(iter(self.buffers())).device
