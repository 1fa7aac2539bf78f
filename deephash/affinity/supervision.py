"""Supervision by pairs: the neighbours among training items."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self, final

import torch
from torch import Tensor

from deephash.conversion import as_tensor
from deephash.validation import InvalidInputError, as_features, as_labels, as_numbers

if TYPE_CHECKING:
    from deephash.affinity.base import Affinity


class TrainingAffinity(ABC):
    """Affinity among the n training items in blocks of rows, for methods fitted from pairs.

    It is built once, from the training part only, so methods see no label outside that part. An item is its own
    neighbour, unless it has no label.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of training items n."""

    @abstractmethod
    def among(self, rows: Tensor) -> Tensor:
        """Return rows of the affinity matrix.

        Args:
            rows: int64 (m,), rows of training items; their number is limited by memory.

        Returns:
            bool (m, n), True if training item j is a neighbour of item rows[i]; on the CPU.
        """

    @abstractmethod
    def subset(self, rows: Tensor) -> "TrainingAffinity":
        """Return the affinity among some of the training items, int64 (m,), in that order."""

    def wide(self) -> "TrainingAffinity":
        """Return the affinity with the widest neighbourhoods, for methods that need many pairs; by default self.

        In the small ε-ball of a large database, a training item has few neighbours.
        """
        return self


@final
class AmongItems(TrainingAffinity):
    """The neighbours among training items by a definition, such as labels or an ε-ball.

    Args:
        affinity: the definition, fitted on the training items.
        features: floating (n, d).
        labels: int64 (n,), bool (n, c) or None.
        wider: a definition of wider neighbourhoods for `wide`, fitted on the training items; None to use `affinity`.
    """

    def __init__(
        self, affinity: "Affinity", features: Tensor, labels: Tensor | None, wider: "Affinity | None" = None
    ) -> None:
        self.affinity = affinity
        self.wider = wider
        # Features of several views are checked by the methods that use them.
        items = features if hasattr(features, "detach") else as_features(features)
        self.features = items.detach().cpu()
        self.labels = None if labels is None else as_labels(labels, len(items)).cpu()

    def __len__(self) -> int:
        """Number of training items n."""
        return len(self.features)

    def among(self, rows: Tensor) -> Tensor:
        """Return rows of the affinity matrix, int64 (m,) → bool (m, n)."""
        rows = rows.cpu()
        labels = None if self.labels is None else self.labels[rows]
        return self.affinity.block(self.features[rows], labels, self.features, self.labels)

    def subset(self, rows: Tensor) -> Self:
        """Return the affinity among some of the items."""
        rows = rows.cpu()
        labels = None if self.labels is None else self.labels[rows]
        return type(self)(self.affinity, self.features[rows], labels, self.wider)

    def wide(self) -> Self:
        """Return the neighbours by the wider definition, or self without one."""
        return self if self.wider is None else type(self)(self.wider, self.features, self.labels)


@final
class ListedPairs(TrainingAffinity):
    """Neighbours by a list of pairs; every item is also its own neighbour.

    Args:
        pairs: int64 (p, 2), rows of training items, in any order; each counts in both directions.
        items: number of training items n.

    Raises:
        InvalidInputError: pairs of the wrong shape or dtype, or rows outside 0 to n - 1.
    """

    def __init__(self, pairs: Tensor, items: int) -> None:
        pairs = as_tensor(as_numbers(pairs, "pairs"))
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != torch.int64:
            raise InvalidInputError(
                f"pairs have shape {tuple(pairs.shape)} and dtype {pairs.dtype}; expected int64 (p, 2)."
            )
        if pairs.numel() and not 0 <= int(pairs.min()) <= int(pairs.max()) < items:
            raise InvalidInputError(
                f"pairs have rows from {int(pairs.min())} to {int(pairs.max())}; expected rows from 0 to {items - 1}."
            )
        diagonal = torch.arange(items)[:, None].expand(-1, 2)
        both = torch.unique(torch.cat([pairs, pairs.flip(1), diagonal]), dim=0)
        self.items = items
        self.neighbours = both[:, 1].contiguous()
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), both[:, 0].bincount(minlength=items).cumsum(0)])

    def __len__(self) -> int:
        """Number of training items n."""
        return self.items

    def among(self, rows: Tensor) -> Tensor:
        """Return rows of the affinity matrix, int64 (m,) → bool (m, n)."""
        matrix = torch.zeros(len(rows), self.items, dtype=torch.bool)
        for i, row in enumerate(rows.tolist()):
            matrix[i, self.neighbours[self.offsets[row] : self.offsets[row + 1]]] = True
        return matrix

    def subset(self, rows: Tensor) -> Self:
        """Return the affinity among some of the items."""
        rows = rows.cpu()
        place = torch.full((self.items,), -1)
        place[rows] = torch.arange(len(rows))
        first = torch.repeat_interleave(torch.arange(self.items), self.offsets.diff())
        pairs = torch.stack([place[first], place[self.neighbours]], 1)
        return type(self)(pairs[(pairs >= 0).all(1)], len(rows))


def check_supervision(
    method: str,
    requires: frozenset[str],
    labels: Tensor | None,
    affinity: "Affinity | TrainingAffinity | None",
    items: int,
) -> None:
    """Raise an error if a fit lacks required supervision, or has supervision of other items.

    Args:
        method: name of the class, for the message.
        requires: a subset of {"labels", "affinity"}.
        labels: labels passed to the fit, or None.
        affinity: affinity passed to the fit, or None.
        items: number of training items n.

    Raises:
        InvalidInputError: a required argument is None, or the affinity has a different number of items.
    """
    remedies = {
        "labels": "use data that have them, or pass labels=.",
        "affinity": "use data that have them, or pass affinity=, such as deephash.affinity.Label() with labels=.",
    }
    for name, value in (("labels", labels), ("affinity", affinity)):
        if name in requires and value is None:
            raise InvalidInputError(f"{method} is fitted from {name}, and none were given; {remedies[name]}")
    if isinstance(affinity, TrainingAffinity) and len(affinity) != items:
        raise InvalidInputError(f"the affinity has {len(affinity)} items; expected the {items} training items.")
