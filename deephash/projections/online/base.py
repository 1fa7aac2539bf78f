"""The base class of online projections: they learn batch by batch and report which codes each batch makes stale."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity, check_supervision
from deephash.codes import hard_bits
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, as_features, as_labels, check_scale

# Rows per batch in the single pass of `fit`; an even number, for methods that learn from pairs.
BATCH_ROWS = 500
# Memory is allocated for every class up to the largest index; some methods keep a matrix of classes by classes.
MAX_CLASSES = 2**14


@dataclass(frozen=True)
class Update:
    """The effect of a partial fit on codes that were computed before it.

    Args:
        moved: bool (k,), projections that changed: the codes of earlier items are stale in these bits. All are True in
            the first fit.
        flipped: float32 (k,), the share of the batch whose projection changed its sign: an estimate of the share of
            earlier codes that are now wrong. 1 in the first fit.
    """

    moved: Tensor
    flipped: Tensor

    @property
    def is_stale(self) -> bool:
        """Whether any earlier code may have changed."""
        return bool(self.moved.any())


class OnlineProjection(Projection):
    """A projection that learns from a stream, batch by batch, in memory that does not grow with the number of items.

    Subclasses implement `_start`, which sets the initial state from the first items, and `_learn`, which learns from a
    batch. All state, including that of the random generator, is in parameters and buffers. It is saved and loaded with
    the weights, and a loaded projection continues exactly as the saved one would have. Sizes that grow with the stream,
    such as the number of classes, are constructor arguments, and the attributes of the same name grow too.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
    """

    samples_rows: ClassVar[bool] = True

    in_given_order: ClassVar[bool] = False
    """Whether `fit` processes the rows in the given order; otherwise in random order."""

    seen: Tensor
    generator_state: Tensor
    directions: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("generator_state", torch.Generator().get_state())

    @abstractmethod
    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        """Replace the state by the initial state for these first items: scale, anchors, random starts."""

    @abstractmethod
    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        """Learn from a batch in place, its rows in the order of their arrival; gradients are off."""

    @torch.no_grad()
    def partial_fit(
        self,
        features: Tensor | ArrayLike,
        labels: Tensor | ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Update:
        """Learn from the next batch of a stream.

        Args:
            features: numbers (n, d), in any form that `as_features` accepts, in the order of their arrival; not
                changed.
            labels: class indices int64 (n,) or indicator bool (n, c), if the method requires them.
            generator: CPU generator of every random draw; None uses one seeded with 0. Only the first batch uses it:
                later draws continue from the saved state.

        Returns:
            The projections that moved, and the share of the batch's signs that changed.

        Raises:
            InvalidInputError: features or labels are invalid, the first rows are too few, or required labels are
                missing.
        """
        starts = not bool(self.is_fitted)
        features = as_features(features, self.input_dim, self.minimum_rows if starts else 0, "stream features")
        check_scale(features, "stream features")
        if labels is not None:
            labels = as_labels(labels, len(features), "stream labels")
            check_classes(labels)
        check_supervision(type(self).__name__, self.requires, labels, None, len(features))
        features = features.to(self._device())
        if starts:
            generator = generator or torch.Generator().manual_seed(0)
            self._start(features, labels, generator)
            self.seen.zero_()
        else:
            generator = torch.Generator()
            generator.set_state(self.generator_state.cpu())
        if len(features) == 0:
            nothing = torch.zeros(self.output_dim, device=self._device())
            return Update(nothing.bool(), nothing)
        weights, bits = self.function_weights().clone(), hard_bits(self(features))
        self._learn(features, labels, generator)
        self._record(generator, len(features))
        self.is_fitted.fill_(True)
        if starts:
            everything = torch.ones(self.output_dim, device=self._device())
            return Update(everything.bool(), everything)
        moved = (self.function_weights() != weights).any(0)
        return Update(moved, (hard_bits(self(features)) != bits).float().mean(0))

    def function_weights(self) -> Tensor:
        """Return all learnt weights that projection j depends on, in column j: (p, k)."""
        return self.directions.detach()

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        """Learn from the rows in one pass, in batches."""
        if labels is not None:
            check_classes(labels)
        n = len(features)
        self._start(features, labels, generator)
        self.seen.zero_()
        order = torch.arange(n) if self.in_given_order else torch.randperm(n, generator=generator)
        for rows in torch.split(order, BATCH_ROWS):
            batch_labels = None if labels is None else labels[rows.to(labels.device)]
            self._learn(features[rows.to(features.device)], batch_labels, generator)
            self._record(generator, len(rows))

    def _record(self, generator: torch.Generator, count: int) -> None:
        self.generator_state.copy_(generator.get_state())
        self.seen.add_(count)


def check_classes(labels: Tensor) -> None:
    """Raise `InvalidInputError` if a class index is so large that memory for all smaller classes is exhausted."""
    if labels.ndim == 1 and len(labels) and int(labels.max()) >= MAX_CLASSES:
        raise InvalidInputError(
            f"labels reach {int(labels.max())}, but stream methods allocate memory for every class from 0; number the "
            f"classes from 0, below {MAX_CLASSES}."
        )


def count_classes(labels: Tensor) -> int:
    """Return the number of classes that labels int64 (n,) or bool (n, c) name, counted from class 0."""
    return labels.shape[1] if labels.ndim > 1 else int(labels.max()) + 1


def make_indicators(labels: Tensor, classes: int) -> Tensor:
    """Convert labels int64 (n,) or bool (n, at most c) to indicators of c classes, bool (n, c)."""
    if labels.ndim > 1:
        return torch.nn.functional.pad(labels, (0, classes - labels.shape[1]))
    return torch.nn.functional.one_hot(labels, classes).bool()


def share_label(first: Tensor, second: Tensor) -> Tensor:
    """Return whether items in the same row share a label: bool (n,), for two label arrays int64 (n,) or bool (n, c)."""
    return first == second if first.ndim == 1 else (first & second).any(1)
