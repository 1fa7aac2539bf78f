"""The contract of an online projection: it learns from items as they come, and says which codes that makes stale."""

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

# Rows that `fit` hands over at a time in its one pass; an even number, for methods that learn from pairs.
BATCH_ROWS = 500
# Room is kept for every class up to the largest; some methods keep a scatter of classes by classes.
MAX_CLASSES = 2**14


@dataclass(frozen=True)
class Update:
    """What a partial fit did to the codes that were made before it.

    Args:
        moved: bool (k,), the projections that are other functions now: codes of earlier items are stale in the bits of
            these and stand in the others. All, where nothing had been learnt before.
        flipped: float32 (k,), the share of the batch's items whose projection changed its sign: an estimate of how
            many earlier codes differ from what they would be now. 1 where nothing had been learnt before.
    """

    moved: Tensor
    flipped: Tensor

    @property
    def is_stale(self) -> bool:
        """Whether any earlier code may differ from what it would be now."""
        return bool(self.moved.any())


class OnlineProjection(Projection):
    """A projection that goes on learning, batch by batch, in memory that does not grow with the items it has seen.

    A method writes `_start`, which sets its first state from the first items, and `_learn`, which takes a batch. All
    of its state, that of its random draws too, is parameters and buffers: it is saved and loaded with the weights, and
    a loaded one goes on exactly as the one that was saved would have. Sizes that grow, as the number of classes, are
    constructor arguments that are raised as they grow.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
    """

    samples_rows: ClassVar[bool] = True

    in_given_order: ClassVar[bool] = False
    """Whether `fit` goes through the rows as they are given; else in an order drawn at random."""

    seen: Tensor
    generator_state: Tensor
    directions: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("generator_state", torch.Generator().get_state())

    @abstractmethod
    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        """Set the state before any learning, whatever it was, from the first items: scale, anchors, random starts."""

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
        """Learn from a batch of a stream, after all that was learnt before.

        Args:
            features: numbers (n, d), as `as_features` takes them, in the order of their arrival; not changed.
            labels: class indices int64 (n,) or indicator bool (n, c), where the method requires them.
            generator: CPU generator whose state all draws go on from; taken by the first batch alone, where None
                stands for one seeded with 0. Later draws follow from the saved state.

        Returns:
            Which projections moved, and how many signs of the batch that changed.

        Raises:
            InvalidInputError: bad features or labels, too few rows to start from, or required labels missing.
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
        self._keep(generator, len(features))
        self.is_fitted.fill_(True)
        if starts:
            everything = torch.ones(self.output_dim, device=self._device())
            return Update(everything.bool(), everything)
        moved = (self.function_weights() != weights).any(0)
        return Update(moved, (hard_bits(self(features)) != bits).float().mean(0))

    def function_weights(self) -> Tensor:
        """All that projection j depends on and that learning moves, in column j: (p, k)."""
        return self.directions.detach()

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        """One pass over the rows, in batches."""
        if labels is not None:
            check_classes(labels)
        n = len(features)
        self._start(features, labels, generator)
        self.seen.zero_()
        order = torch.arange(n) if self.in_given_order else torch.randperm(n, generator=generator)
        for rows in torch.split(order, BATCH_ROWS):
            batch_labels = None if labels is None else labels[rows.to(labels.device)]
            self._learn(features[rows.to(features.device)], batch_labels, generator)
            self._keep(generator, len(rows))

    def _keep(self, generator: torch.Generator, count: int) -> None:
        self.generator_state.copy_(generator.get_state())
        self.seen.add_(count)


def check_classes(labels: Tensor) -> None:
    """Raise an error for class indices so large that the room for all classes below them would fill the memory.

    Raises:
        InvalidInputError: naming the largest.
    """
    if labels.ndim == 1 and len(labels) and int(labels.max()) >= MAX_CLASSES:
        raise InvalidInputError(
            f"labels reach {int(labels.max())}, and a stream's methods keep room for every class from 0 on; number the "
            f"classes from 0, below {MAX_CLASSES}."
        )


def same_label(one: Tensor, other: Tensor) -> Tensor:
    """Whether items of the same row share a label: bool (n,).

    Args:
        one: int64 (n,) or bool (n, c).
        other: likewise.
    """
    return one == other if one.ndim == 1 else (one & other).any(1)
