"""The base class of paired projections: features of each of two views → continuous projections in one space."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.data.views import Views
from deephash.projections.learner import Learner
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import InvalidInputError, as_features, check_count, check_length, check_scale

VIEWS = 2
ViewTensors = Mapping[str, Tensor]


class PairedProjection(Learner, ABC):
    """Two projections into one space: bit j of an image has the same meaning as bit j of its text.

    Each view has its own `Projection`, which maps new items without the other view. By default this is a `LinearView`;
    a subclass may replace `views`. Subclasses implement `_fit`, the algorithm of the paper, which learns the weights of
    both views from pairs.

    Shape:
        features (n, d of the view) → projections (n, k), by `views[name]`.

    Args:
        input_dims: feature dimension d of each view by name, in the order of the data; two views.
        output_dim: number of projections k.

    Raises:
        InvalidInputError: the number of views is not two.
    """

    minimum_rows: ClassVar[int] = 2
    """Smallest number of training pairs for which the method is defined."""

    views: nn.ModuleDict

    learnt_codes: Tensor | None = None
    """Bits bool (n, k) of the training pairs, in their order, if the method learns them in `fit`; None otherwise. They
    are not saved with the weights. `metrics.database_codes` chooses whether scores use them."""

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
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})

    @abstractmethod
    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        """Set the weights of the views in place from checked input; gradients are off.

        Args:
            views: floating (n, d) of each view, on the device of the weights; row i of both views is one pair.
            labels: int64 (n,), bool (n, c) or None.
            affinity: affinity among the n pairs, or None.
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
        """Learn both projections by the algorithm of the paper.

        Args:
            features: n items in both views; items that lack a view are left out.
            labels: class indices int64 (n,) or indicator bool (n, c), if the method requires them.
            affinity: which items are neighbours, if the method requires it: a definition, or the result of its
                `supervise`.
            generator: CPU generator of every random draw; None uses one seeded with 0.

        Returns:
            self, fitted, on the device of its weights.

        Raises:
            InvalidInputError: the views differ from `input_dims`, features or labels are invalid, pairs are too
                few, or required supervision is missing.
        """
        if features.dimensions != self.input_dims:
            raise InvalidInputError(
                f"{type(self).__name__} was built for views {self.input_dims}; the data have {features.dimensions}."
            )
        labels, affinity = self._supervise(features, labels, affinity)
        complete = features.complete.nonzero()[:, 0]
        if len(complete) < len(features):
            labels = None if labels is None else labels[complete.to(labels.device)]
            affinity = None if affinity is None else affinity.subset(complete)
        pairs = features.pairs()
        for name, rows in pairs.features.items():
            rows = as_features(rows, self.input_dims[name], self.minimum_rows, f"training pairs' {name} features")
            check_scale(rows, f"training pairs' {name} features")
        views = {name: rows.to(self._device()) for name, rows in pairs.features.items()}
        with self._solving(len(pairs)):
            self._fit(views, labels, affinity, generator or torch.Generator().manual_seed(0))
        for name in self.views:
            self.view(name).is_fitted.fill_(True)
        return self

    def view(self, name: str) -> Any:
        """Return the projection of one view, a `Projection`.

        Raises:
            InvalidInputError: the view does not exist.
        """
        if name not in self.views:
            raise InvalidInputError(f"view={name!r}; expected one of: {', '.join(self.views)}.")
        return self.views[name]

    def check_fitted(self) -> None:
        """Raise an error if this projection is not fitted.

        Raises:
            NotFittedError: the projection was neither fitted nor loaded.
        """
        self._check_fitted(all(bool(view.is_fitted) for view in self.views.values()))

    def _device(self) -> torch.device:
        return next(iter(self.buffers())).device
